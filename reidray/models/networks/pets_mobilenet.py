"""Build the reports' networks for pets on MobileNetV3-Small (Howard et al. 2019)."""

from itertools import pairwise
from typing import Any

from torch import nn

from reidray.config.options.report_networks import (
    PetsMobilenetDenseOptions,
    PetsMobilenetOptions,
)
from reidray.models.architecture import Architecture
from reidray.models.backbones import create_body
from reidray.models.factory import register_network
from reidray.models.networks.layers import pooled_size, require_multiples
from reidray.models.networks.network import IMAGENET_SCALING
from reidray.models.networks.pets_scratch import (
    OXFORD_BREEDS,
    PetNetwork,
    flat_classifier,
    transposed_convolutions,
    upsampling_convolutions,
)
from reidray.models.weights.published_layers import PublishedLayers

CHANNELS = 576
STRIDE = 32
"""Stride of the feature map of MobileNetV3-Small, in pixels."""


@register_network("pets_mobilenet_transpose", num_classes=OXFORD_BREEDS)
def build_pets_mobilenet_transpose(
    architecture: Architecture[PetsMobilenetOptions], weights: str
) -> PetNetwork:
    """Build average pooling for the class, and a mask decoder of transposed convolutions.

    1,296,854 in Keras's count at any size, 10,960 of them running means and variances: backbone
    936,816, dense 576 x 37 + 37 = 21,349, decoder 295,040 + 32,832 + 8,224 + 2,064 + 520 + 9.
    The backbone has no batch normalisation after its last convolution, as the report's total tells.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    classifier = nn.Sequential(*_average_pooling(), nn.Linear(CHANNELS, architecture.num_classes))
    decoder = nn.Sequential(
        *transposed_convolutions(CHANNELS, 128, 64, 32, 16, 8), nn.Conv2d(8, 1, 1)
    )
    return PetNetwork(IMAGENET_SCALING, _mobilenet(weights, last_norm=False), classifier, decoder)


@register_network("pets_mobilenet_upsample", num_classes=OXFORD_BREEDS)
def build_pets_mobilenet_upsample(
    architecture: Architecture[PetsMobilenetOptions], weights: str
) -> PetNetwork:
    """Build a dense layer for the class, and a mask decoder of convolutions and up-sampling.

    2,287,382 in Keras's count at 128x128, 12,112 of them running means and variances: backbone
    939,120, classifier 9,216 x 64 + 64 = 589,888 and 2,405, where 9,216 = 576 x 4 x 4; decoder
    663,680 + 73,792 + 18,464 + 33, up-sampled by 2, 4 and 4.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    classifier = flat_classifier(
        CHANNELS * pooled_size(height, width, STRIDE), architecture.num_classes
    )
    decoder = nn.Sequential(
        *upsampling_convolutions((CHANNELS, 128, 64, 32), factors=(2, 4, 4)), nn.Conv2d(32, 1, 1)
    )
    return PetNetwork(IMAGENET_SCALING, _mobilenet(weights, last_norm=True), classifier, decoder)


@register_network("pets_mobilenet_dense", num_classes=OXFORD_BREEDS)
def build_pets_mobilenet_dense(
    architecture: Architecture[PetsMobilenetDenseOptions], weights: str
) -> PetNetwork:
    """Build average pooling and three dense layers for the class, without a mask decoder."""
    layers: list[nn.Module] = [*_average_pooling()]
    for before, after in pairwise((CHANNELS, 1024, 1024, 512)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    classifier = nn.Sequential(*layers, nn.Linear(512, architecture.num_classes))
    return PetNetwork(IMAGENET_SCALING, _mobilenet(weights, last_norm=False), classifier, None)


def _mobilenet(weights: str, *, last_norm: bool) -> PublishedLayers:
    """Build MobileNetV3-Small up to its last convolution: (B, 576, H / 32, W / 32) features.

    Args:
        weights: `none`, or `imagenet` for timm's weights.
        last_norm: whether batch normalisation and the activation follow the last convolution, as in
            Keras's MobileNet without its top. It has 939,120 parameters, 4 x 576 = 2,304 of them in
            this normalisation.
    """
    body: Any = create_body("mobilenetv3_small_100", weights)
    *blocks, last = body.blocks
    return PublishedLayers(
        body, body.conv_stem, body.bn1, *blocks, last if last_norm else last[0].conv
    )


def _average_pooling() -> tuple[nn.Module, ...]:
    """Return the layers of global average pooling, (B, C, H, W) to (B, C)."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
