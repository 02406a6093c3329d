"""Declare the options of the networks of the source reports."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from reidray.config.sections.network_options import (
    NetworkOptions,
    NetworkTask,
    Prediction,
    dropout_share,
    feature_count,
    image_side,
    register_network_options,
)


@register_network_options("vgg_triplet_gray")
@dataclass(frozen=True, kw_only=True)
class GrayTripletOptions(NetworkOptions):
    """Hold the options of `vgg_triplet_gray`, the triplet network over luminance.

    Attributes:
        embedding_size: length of the embedding.
        dropout: share of the channels that training drops.
    """

    height: int = image_side(64)
    width: int = image_side(32)
    embedding_size: int = feature_count(32)
    dropout: float = dropout_share(0.2)


@register_network_options("vgg_triplet_rgb")
@dataclass(frozen=True, kw_only=True)
class RgbTripletOptions(NetworkOptions):
    """Hold the options of `vgg_triplet_rgb`, the triplet network over colours.

    Attributes:
        embedding_size: length of the embedding.
        activation: function after each batch normalisation; the report compares swish and relu.
    """

    height: int = image_side(64)
    width: int = image_side(32)
    embedding_size: int = feature_count(301)
    activation: Literal["swish", "relu"] = "swish"


@register_network_options("attributes_vgg")
@dataclass(frozen=True, kw_only=True)
class AttributesVggOptions(NetworkOptions):
    """Hold the options of `attributes_vgg`, which predicts attributes alone.

    Attributes:
        dropout: share of the channels that training drops. The report does not state it; the
            default is that of `vgg_triplet_gray`.
        shared_dense: let the attributes whose names begin with the same word, such as torso_type
            and torso_colour, share a dense layer.
    """

    task: ClassVar[NetworkTask] = "attributes"
    predicts: ClassVar[tuple[Prediction, ...]] = ("attributes",)

    height: int = image_side(100)
    width: int = image_side(60)
    dropout: float = dropout_share(0.2)
    shared_dense: bool = False


@register_network_options("pets_scratch_deep")
@register_network_options("pets_scratch_transpose")
@register_network_options("pets_scratch_upsample")
@dataclass(frozen=True, kw_only=True)
class PetsOptions(NetworkOptions):
    """Hold the options of the networks for pets that start from random weights."""

    task: ClassVar[NetworkTask] = "pets"
    predicts: ClassVar[tuple[Prediction, ...]] = ("class", "mask")

    height: int = image_side(128)
    width: int = image_side(128)


@register_network_options("pets_autoencoder")
@dataclass(frozen=True, kw_only=True)
class PetsAutoencoderOptions(PetsOptions):
    """Hold the options of `pets_autoencoder`."""

    height: int = image_side(256)
    width: int = image_side(256)


@register_network_options("pets_mobilenet_transpose")
@register_network_options("pets_mobilenet_upsample")
@dataclass(frozen=True, kw_only=True)
class PetsMobilenetOptions(PetsOptions):
    """Hold the options of the networks for pets that start from MobileNetV3-Small."""

    pretrained: ClassVar[bool] = True


@register_network_options("pets_mobilenet_dense")
@dataclass(frozen=True, kw_only=True)
class PetsMobilenetDenseOptions(PetsMobilenetOptions):
    """Hold the options of `pets_mobilenet_dense`, which draws no masks."""

    predicts: ClassVar[tuple[Prediction, ...]] = ("class",)
