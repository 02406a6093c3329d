"""Build the backbone of a network: a registered one, or any timm model."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reidray.errors import UserError
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.models.backbones.timm_bodies import create_timm_body


class Backbone(nn.Module):
    """Map a crop to a pooled feature: a network without its classifier.

    Args:
        name: a registered backbone, or a timm model.
        size: height and width of a crop in pixels.
        weights: `none` for random ones, `imagenet`, or a .safetensors file.

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
        weights: `none` for random ones, `imagenet`, or a .safetensors file.
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
    if weights not in ("imagenet", "none"):
        load_body_weights(body, Path(weights))
    return body


def load_body_weights(body: nn.Module, path: Path) -> None:
    """Load the weights of a backbone from a safetensors file, without those of a classifier.

    Raises:
        UserError: the file cannot be read, or lacks a weight of the backbone.
    """
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
