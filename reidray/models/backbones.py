"""What turns a crop into a pooled feature: any timm model, and two that suit a CPU."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reidray.errors import UserError


@dataclass(frozen=True)
class BackbonePreset:
    """A timm architecture with arguments of our own.

    Attributes:
        architecture: timm's name.
        arguments: what timm builds it with.
        stripes: horizontal stripes that are pooled apart; 1 pools the whole crop.
    """

    architecture: str
    arguments: dict[str, object]
    stripes: int = 1


PRESETS = {
    # One residual block a stage and a quarter of the width: at 64x32 a training step costs a CPU
    # core about 2 ms an image. The last stage keeps its resolution (Luo et al. 2019), and as people
    # stand upright, head, coat and trousers are pooled apart (Sun et al. 2018).
    "resnet_tiny": BackbonePreset(
        "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [24, 48, 96, 192], "output_stride": 16},
        stripes=4,
    ),
    "resnet_small": BackbonePreset(
        "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256], "output_stride": 16},
        stripes=4,
    ),
}


class Backbone(nn.Module):
    """A timm model without its classifier.

    Attributes:
        num_features: length of the pooled feature.
    """

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        preset = PRESETS.get(name, BackbonePreset(name, {}))
        if not timm.is_model(preset.architecture):
            raise UserError(_unknown_backbone(name))
        self.body: nn.Module = create_body(preset, weights)
        self.stripes = preset.stripes
        # Some models, such as MobileNetV3, widen the feature after the pooling.
        size: Any = self.body.head_hidden_size if preset.stripes == 1 else self.body.num_features
        self.num_features = int(size) * preset.stripes

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32, normalised, to pooled features (B, F) float32."""
        if self.stripes == 1:
            feature: Tensor = self.body(images)
            return feature
        grid: Tensor = self.body.forward_features(images)  # type: ignore[operator]
        return functional.adaptive_avg_pool2d(grid, (self.stripes, 1)).flatten(1)


def create_body(preset: BackbonePreset, weights: str) -> nn.Module:
    """A timm model without its classifier.

    Args:
        preset: which.
        weights: `none` for random ones, `imagenet`, or a .safetensors file.

    Raises:
        UserError: the weights are not to be had.
    """
    create = timm.create_model
    if weights == "imagenet":
        try:
            pretrained: nn.Module = create(
                preset.architecture, pretrained=True, num_classes=0, **preset.arguments
            )
            return pretrained
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"ImageNet weights of {preset.architecture} could not be loaded "
                f"({type(error).__name__}): they need a network connection; give a local "
                ".safetensors file with --network.weights FILE, or none"
            ) from error
    body: nn.Module = create(preset.architecture, num_classes=0, **preset.arguments)
    if weights != "none":
        _load_file(body, Path(weights))
    return body


def _load_file(body: nn.Module, path: Path) -> None:
    """Fill a backbone from a safetensors file, whose classifier is left out."""
    if path.suffix != ".safetensors":
        raise UserError(f"weights {path}: expected `imagenet`, `none` or a .safetensors file")
    try:
        tensors = load_file(path)
    except Exception as error:
        raise UserError(f"weights {path} cannot be read as safetensors: {error}") from error
    wanted = body.state_dict()
    missing = [
        key
        for key, value in wanted.items()
        if key not in tensors or tensors[key].shape != value.shape
    ]
    if missing:
        raise UserError(
            f"weights {path} do not fit the backbone: {missing[0]} is missing or differs"
        )
    with torch.no_grad():
        body.load_state_dict({key: tensors[key] for key in wanted})


def _unknown_backbone(name: str) -> str:
    near = get_close_matches(name, [*PRESETS, *timm.list_models()], n=1, cutoff=0.0)
    ours = ", ".join(PRESETS)
    return f"backbone {name!r} is neither {ours} nor a timm model: did you mean {near[0]!r}?"
