"""Build the backbones of networks: any timm model, and two presets that suit a CPU.

timm is imported where one of its models is built: it takes a process seconds.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reidray.errors import UserError
from reidray.models.striped_resnet import StripedResNet
from reidray.suggestions import closest_name, quoted

PRESETS = {"resnet_tiny": (24, 48, 96, 192), "resnet_small": (32, 64, 128, 256)}
"""Channels of the four stages of each preset."""


class Backbone(nn.Module):
    """Map a crop to a pooled feature: a network without its classifier.

    Attributes:
        num_features: length of the pooled feature.
    """

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        body: Any = (
            create_preset(name, weights) if name in PRESETS else create_timm_body(name, weights)
        )
        self.body: nn.Module = body
        # Some of timm's models, such as MobileNetV3, widen the feature after the pooling.
        self.num_features = int(getattr(body, "head_hidden_size", body.num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, F) float32 of images (B, 3, H, W) float32, normalised."""
        feature: Tensor = self.body(images)
        return feature.float()


def create_preset(name: str, weights: str) -> StripedResNet:
    """Return the backbone of a preset.

    Args:
        name: name of a preset, one of `PRESETS`.
        weights: `none` for random ones, or a .safetensors file.

    Raises:
        UserError: the weights do not exist or do not fit.
    """
    if weights == "imagenet":
        raise UserError(
            f"backbone {name} has no ImageNet weights: use `network.weights=none`, or a "
            "timm model such as `network.backbone=resnet50`"
        )
    body = StripedResNet(PRESETS[name])
    if weights != "none":
        _load_file(body, Path(weights))
    return body


def create_timm_body(name: str, weights: str) -> nn.Module:
    """Return a timm model without its classifier.

    Args:
        name: timm's name of the model.
        weights: `none` for random ones, `imagenet`, or a .safetensors file.

    Raises:
        UserError: timm has no such model, or the weights cannot be loaded.
    """
    import timm

    if not timm.is_model(name):
        near = closest_name(name, [*PRESETS, *timm.list_models()])
        advice = f": did you mean {near!r}?" if near else ""
        raise UserError(
            f"backbone {quoted(name)} is neither {', '.join(PRESETS)} nor a timm model{advice}"
        )
    try:
        body: nn.Module = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0)
    except (OSError, RuntimeError) as error:
        if weights != "imagenet":
            raise
        raise UserError(
            f"ImageNet weights of {name} could not be loaded "
            f"({type(error).__name__}): they need a network connection; give a local "
            ".safetensors file in `network.weights`, or none"
        ) from error
    if weights not in ("imagenet", "none"):
        _load_file(body, Path(weights))
    return body


def _load_file(body: nn.Module, path: Path) -> None:
    """Load the weights of a backbone from a safetensors file, without those of a classifier."""
    if path.suffix != ".safetensors":
        raise UserError(f"weights {path}: expected `imagenet`, `none` or a .safetensors file")
    try:
        tensors = load_file(path)
    except Exception as error:
        raise UserError(f"weights {path} cannot be read as safetensors: {error}") from error
    expected = body.state_dict()
    missing = [
        key
        for key, value in expected.items()
        if key not in tensors or tensors[key].shape != value.shape
    ]
    if missing:
        raise UserError(
            f"weights {path} do not fit the backbone: {missing[0]} is missing or differs"
        )
    with torch.no_grad():
        body.load_state_dict({key: tensors[key] for key in expected})
