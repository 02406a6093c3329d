"""Prepare trained networks for inference on a device, in float32 or bfloat16."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reidray.models.backbones.osnet import OSNet
from reidray.models.backbones.striped_resnet import StripedResNet
from reidray.models.networks.person import PersonNetwork

CONVERTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers that multiply by their weights as they are. A subclass may change its weights in float32
first, such as a convolution that standardises them."""


class BFloat16(nn.Module):
    """Run a module in bfloat16, except for its operations that autocast keeps in float32.

    Autocast would convert the weights of convolutions and dense layers in each forward pass. They
    are converted once instead, which gives the same values.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for layer in module.modules():
            if type(layer) in CONVERTED_LAYERS:
                layer.to(torch.bfloat16)

    def forward(self, images: Tensor, *labels: Tensor | None) -> Any:
        """Return the outputs of the module for images (B, 3, H, W) and labels that it reads."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.module(images, *labels)


def prepare_for_inference(
    network: nn.Module, device: torch.device, precision: Literal["fp32", "bf16"] = "fp32"
) -> nn.Module:
    """Return a copy of a network for inference (see `copy_for_inference`), and set cuDNN for it.

    cuDNN is set for the whole process, as its settings hold for all threads: it must choose the
    same deterministic algorithm for a shape each time, without trying several, so that the same
    image has the same embedding in every run; and `fp32` is full float32, as on a CPU, where
    PyTorch would let convolutions use TF32.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    cudnn: Any = torch.backends.cudnn
    for operations in (cudnn.conv, cudnn.rnn):
        operations.fp32_precision = "ieee"  # else that of `torch.backends` holds
    return copy_for_inference(network, device, precision)


def copy_for_inference(
    network: nn.Module, device: torch.device, precision: Literal["fp32", "bf16"]
) -> nn.Module:
    """Return a copy of a network on a device, in evaluation mode and with folded normalisation.

    In `bf16` the backbone of a person network runs in bfloat16, and the layers after its pooling in
    float32. All layers of another network run under autocast. On a GPU the weights are channels
    last. The settings of cuDNN stay as they are, so that the steps of a training after a validation
    are as fast as before, with the same results.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, StripedResNet | OSNet):
            module.fold()
    if precision == "bf16":
        if isinstance(network, PersonNetwork):
            network.add_module("backbone", BFloat16(network.backbone))
        else:
            network = BFloat16(network)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    return network.to(device)


def largest_activation(network: nn.Module, height: int, width: int) -> int:
    """Return the size of the largest output of a layer of a network for one crop, in numbers.

    Args:
        network: network in evaluation mode, which runs once.
        height: rows of a crop.
        width: columns of a crop.
    """
    sizes = [0]

    def record(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    hooks = [module.register_forward_hook(record) for module in network.modules()]
    device = next(network.parameters()).device
    with torch.inference_mode():
        network(torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device))
    for hook in hooks:
        hook.remove()
    return max(sizes)
