"""Declare the options of the vision transformers that recognise people."""

from dataclasses import dataclass
from typing import ClassVar

from reidray.config.sections.limits import limited
from reidray.config.sections.network_options import (
    NetworkOptions,
    Prediction,
    dropout_share,
    register_network_options,
)


@register_network_options("transreid")
@dataclass(frozen=True, kw_only=True)
class TransReIDOptions(NetworkOptions):
    """Hold the options of `transreid`, with the defaults of He et al. 2021.

    Attributes:
        backbone: a vision transformer of timm with a class token, such as vit_small_patch16_224.
        patch_stride: pixels between two patches; patches overlap where it is less than their side.
        camera_embedding: whether training adds a learned vector of its camera to each image, where
            the images name two cameras or more. Validation and scoring add the mean vector.
        jigsaw: whether four branches learn from shuffled parts of the image.
        drop_path: share of the residual branches of the last block that training drops; that of
            the blocks before it rises from 0.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity",)
    pretrained: ClassVar[bool] = True
    reads_cameras: ClassVar[bool] = True

    backbone: str = "vit_tiny_patch16_224"
    patch_stride: int = limited(12, 1, 64)
    camera_embedding: bool = True
    jigsaw: bool = True
    drop_path: float = dropout_share(0.1)
