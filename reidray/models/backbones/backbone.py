"""Build the backbone of a network: a registered one, or any timm model."""

from typing import Any

from torch import Tensor, nn

from reidray.errors import UserError
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.models.backbones.timm_bodies import create_timm_body


class Backbone(nn.Module):
    """Map a crop to a pooled feature: a network without its classifier.

    Args:
        name: a registered backbone, or a timm model.
        size: height and width of a crop in pixels.
        weights: `none` for random ones, or `imagenet`.

    Attributes:
        num_features: length of the pooled feature.

    Raises:
        UserError: no such backbone exists, it cannot take crops of this size, or the weights cannot
            be loaded.
    """

    def __init__(self, name: str, size: tuple[int, int], weights: str) -> None:
        super().__init__()
        body: Any = create_body(name, weights, size)
        self.body: nn.Module = body
        # Some of timm's models, such as MobileNetV3, widen the feature after the pooling.
        self.num_features = int(getattr(body, "head_hidden_size", body.num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, F) float32 of images (B, 3, H, W) float32, normalised."""
        feature: Tensor = self.body(images)
        return feature.float()


def create_body(name: str, weights: str, size: tuple[int, int] | None = None) -> nn.Module:
    """Return a registered backbone or a timm model, without a classifier, with its first weights.

    Args:
        name: name of the backbone.
        weights: `none` for random ones, or `imagenet`.
        size: height and width of an image in pixels; by default the model's own.

    Raises:
        UserError: no such backbone exists, it cannot take images of this size, or the weights
            cannot be loaded.
    """
    pretrained = weights == "imagenet"
    if name not in BACKBONES:
        body = create_timm_body(name, size, pretrained=pretrained)
    elif pretrained:
        raise UserError(
            f"backbone {name} has no ImageNet weights: use `network.weights=none`, or a "
            "timm model such as `network.backbone=resnet50`"
        )
    else:
        body = BACKBONES.get(name)()
    return body
