"""Declare the options of the networks that recognise people."""

from dataclasses import dataclass
from typing import ClassVar

from reidray.config.sections.network_options import (
    NetworkOptions,
    Prediction,
    dropout_share,
    feature_count,
    image_side,
    register_network_options,
)


@register_network_options("apr")
@dataclass(frozen=True, kw_only=True)
class AprOptions(NetworkOptions):
    """Hold the options of `apr`, which learns identity and attributes together.

    Attributes:
        backbone: resnet_tiny, resnet_small, an OSNet such as osnet_x1_0 or osnet_ain_x0_25, or any
            timm model.
        feature_size: width of the dense layer.
        dropout: share of the dense layer's outputs that training drops.
        height: rows of an image.
        width: columns of an image.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity", "attributes")
    pretrained: ClassVar[bool] = True

    backbone: str = "resnet_tiny"
    feature_size: int = feature_count(512)
    dropout: float = dropout_share(0.0)


@register_network_options("baseline")
@dataclass(frozen=True, kw_only=True)
class BaselineOptions(NetworkOptions):
    """Hold the options of `baseline`, which learns identity behind a batch normalisation.

    Attributes:
        backbone: resnet_tiny, resnet_small, an OSNet such as osnet_x1_0 or osnet_ain_x0_25, or any
            timm model.
        height: rows of an image.
        width: columns of an image.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity",)
    pretrained: ClassVar[bool] = True

    backbone: str = "resnet_tiny"


@register_network_options("reid_small")
@dataclass(frozen=True, kw_only=True)
class SmallReidOptions(NetworkOptions):
    """Hold the options of `reid_small`, the small residual network with stripes.

    Attributes:
        height: rows of an image.
        width: columns of an image.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity",)

    height: int = image_side(64)
    width: int = image_side(32)
