"""Declare the options of the networks that recognise people."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from reidray.config.sections.limits import limited
from reidray.config.sections.network_options import (
    NetworkOptions,
    Prediction,
    dropout_share,
    feature_count,
    image_side,
    register_network_options,
)


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(NetworkOptions):
    """Hold the options of a network on any backbone.

    Attributes:
        backbone: resnet_tiny, resnet_small, resnet_nano_patch, resnet_small_patch, resnet50_ibn_a,
            an OSNet such as osnet_x1_0 or osnet_ain_x0_25, or any timm model.
        pooling: pooling of the backbone's grid; own is that of the backbone, gem the generalized
            mean with a learned exponent.
        last_stride: stride of the last stage of a ResNet; 1 keeps twice the rows and columns.
    """

    pretrained: ClassVar[bool] = True

    backbone: str = "resnet_tiny"
    pooling: Literal["own", "avg", "gem"] = "own"
    last_stride: int = limited(2, 1, 2)


@register_network_options("apr")
@dataclass(frozen=True, kw_only=True)
class AprOptions(BackboneOptions):
    """Hold the options of `apr`, which learns identity and attributes together.

    Attributes:
        feature_size: width of the dense layer.
        dropout: share of the dense layer's outputs that training drops.
        neck: normalise the embedding over the batch, before the identity classifier reads it.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity", "attributes")
    feature_size: int = feature_count(512)
    dropout: float = dropout_share(0.0)
    neck: bool = False


@register_network_options("joint")
@dataclass(frozen=True, kw_only=True)
class JointOptions(BackboneOptions):
    """Hold the options of `joint`, which is `baseline` with a classifier for each attribute.

    Attributes:
        dropout: share of the features that training drops before the attributes are classified.
    """

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity", "attributes")

    dropout: float = dropout_share(0.0)


@register_network_options("baseline")
@dataclass(frozen=True, kw_only=True)
class BaselineOptions(BackboneOptions):
    """Hold the options of `baseline`, which learns identity behind a batch normalisation."""

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity",)


@register_network_options("reid_small")
@dataclass(frozen=True, kw_only=True)
class SmallReidOptions(BackboneOptions):
    """Hold the options of `reid_small`, which learns identity from small crops."""

    predicts: ClassVar[tuple[Prediction, ...]] = ("identity",)

    height: int = image_side(64)
    width: int = image_side(32)
