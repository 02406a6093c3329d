"""Keep the resolution of a ResNet's last stage."""

from typing import Any

from torch import nn

from reidray.errors import UserError


def keep_last_resolution(body: nn.Module, name: str) -> None:
    """Give the last stage of a ResNet the stride 1 (Luo et al. 2019).

    The grid has twice as many rows and columns. The weights stay the same. Poolings that halve the
    grid beside a convolution are taken out, as timm does where the stride is 1.

    Args:
        body: a timm model.
        name: name of the backbone, for messages.

    Raises:
        UserError: the backbone is no ResNet.
    """
    from timm.layers import BlurPool2d
    from timm.models.resnet import ResNet

    if not isinstance(body, ResNet):
        raise UserError(
            f"backbone {name} is no ResNet, whose last stage `network.last_stride` could change: "
            "use `network.last_stride=2`"
        )
    first: Any = body.layer4[0]
    for path, layer in list(first.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.stride = (1, 1)
        elif isinstance(layer, nn.AvgPool2d) and layer.stride == 2 and layer.padding:
            layer.stride = 1
        elif isinstance(layer, nn.AvgPool2d | BlurPool2d) and layer.stride == 2:
            parent, _, child = path.rpartition(".")
            first.get_submodule(parent).register_module(child, nn.Identity())
