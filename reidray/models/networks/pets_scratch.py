"""Build the reports' networks that classify a pet's breed and predict its mask."""

from itertools import pairwise

from torch import Tensor, nn

from reidray.config.options.report_networks import PetsAutoencoderOptions, PetsOptions
from reidray.models.architecture import Architecture
from reidray.models.factory import register_network
from reidray.models.networks.layers import (
    convolution,
    init_like_keras,
    pooled_size,
    require_multiples,
)
from reidray.models.networks.network import UNIT_RGB, Network, PetOutputs, PixelScaling

OXFORD_BREEDS = 37
"""The classes of the Oxford-IIIT Pet data set."""

STRIDE = 8
"""Stride of the feature map after three poolings, in pixels."""


class PetNetwork(Network):
    """Classify a feature map and, with a decoder, predict a mask from it.

    Both heads return logits. The losses apply the softmax and the sigmoid.

    Args:
        pixels: scaling of the pixels.
        backbone: layers from an image to a feature map.
        classifier: layers from the feature map to the logits of the classes. The last one reads the
            features that the network returns.
        decoder: layers from the feature map to the logits of a mask; None for no masks.
    """

    def __init__(
        self,
        pixels: PixelScaling,
        backbone: nn.Module,
        classifier: nn.Sequential,
        decoder: nn.Module | None,
    ) -> None:
        super().__init__(pixels)
        self.backbone = backbone
        self.classifier = classifier
        self.decoder = decoder
        init_like_keras(classifier)
        if decoder is not None:
            init_like_keras(decoder)

    def forward(self, images: Tensor) -> PetOutputs:
        """Return the outputs for images (B, 3, H, W), uint8 or float32 in 0..255."""
        feature_map = self.backbone(self.scale(images))
        *layers, last_layer = self.classifier
        features = feature_map
        for layer in layers:
            features = layer(features)
        classes = last_layer(features)
        if self.decoder is None:
            masks = classes.new_empty((images.shape[0], 0, *images.shape[2:]))
        else:
            masks = self.decoder(feature_map)
        return PetOutputs(classes, masks, features)


@register_network("pets_scratch_transpose", num_classes=OXFORD_BREEDS)
def build_pets_scratch_transpose(architecture: Architecture[PetsOptions], _: str) -> PetNetwork:
    """Build three convolutions, and a mask decoder of transposed convolutions.

    1,412,454 parameters at 128x128: backbone 896 + 18,496 + 73,856 = 93,248, decoder 65,664 +
    32,832 + 8,224 + 33, dense 32,768 x 37 + 37 = 1,212,453, where 32,768 = 128 x 16 x 16.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    classifier = _flat_dense(128 * pooled_size(height, width, STRIDE), architecture.num_classes)
    decoder = nn.Sequential(*transposed_convolutions(128, 128, 64, 32), nn.Conv2d(32, 1, 1))
    return PetNetwork(UNIT_RGB, _pooled_convolutions(3, 32, 64, 128), classifier, decoder)


@register_network("pets_scratch_upsample", num_classes=OXFORD_BREEDS)
def build_pets_scratch_upsample(architecture: Architecture[PetsOptions], _: str) -> PetNetwork:
    """Build three convolutions, and a mask decoder of convolutions and up-sampling.

    2,432,742 parameters at 128x128: the backbone of `pets_scratch_transpose` 93,248, classifier
    32,768 x 64 + 64 = 2,097,216 and 2,405, decoder 147,584 + 73,792 + 18,464 + 33.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    decoder = nn.Sequential(
        *upsampling_convolutions((128, 128, 64, 32), factors=(2, 2, 2)), nn.Conv2d(32, 1, 1)
    )
    classifier = flat_classifier(128 * pooled_size(height, width, STRIDE), architecture.num_classes)
    return PetNetwork(UNIT_RGB, _pooled_convolutions(3, 32, 64, 128), classifier, decoder)


@register_network("pets_scratch_deep", num_classes=OXFORD_BREEDS)
def build_pets_scratch_deep(architecture: Architecture[PetsOptions], _: str) -> PetNetwork:
    """Build pairs of convolutions, and a mask decoder of transposed 3x3 convolutions.

    2,626,502 parameters at 128x128: backbone 896 + 9,248 + 18,496 + 36,928 + 73,856 + 147,584 =
    287,008, classifier 32,768 x 64 + 64 = 2,097,216 and 2,405, decoder 147,584 + 73,792 + 18,464 +
    33.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    classifier = flat_classifier(128 * pooled_size(height, width, STRIDE), architecture.num_classes)
    decoder = nn.Sequential(*transposed_convolutions(128, 128, 64, 32, size=3), nn.Conv2d(32, 1, 1))
    return PetNetwork(
        UNIT_RGB, _pooled_convolutions(3, 32, 64, 128, pairs=True), classifier, decoder
    )


@register_network("pets_autoencoder", num_classes=OXFORD_BREEDS)
def build_pets_autoencoder(
    architecture: Architecture[PetsAutoencoderOptions], _: str
) -> PetNetwork:
    """Build an autoencoder whose code is classified, and whose decoder predicts the mask.

    640,438 parameters at 256x256: encoder 1,792 + 18,464 + 4,624, decoder 2,320 + 2,320 + 4,640 +
    33, dense 16,384 x 37 + 37 = 606,245. As 16,384 = 16 x 32 x 32, three poolings precede the code.
    The counts would also fit transposed 3x3 convolutions. This decoder up-samples.
    """
    height, width = architecture.size
    require_multiples(height, width, STRIDE)
    classifier = _flat_dense(16 * pooled_size(height, width, STRIDE), architecture.num_classes)
    decoder = nn.Sequential(
        *upsampling_convolutions((16, 16, 16, 32), factors=(2, 2, 2)), nn.Conv2d(32, 1, 1)
    )
    return PetNetwork(UNIT_RGB, _pooled_convolutions(3, 64, 32, 16), classifier, decoder)


def flat_classifier(features: int, num_classes: int) -> nn.Sequential:
    """Return a dense layer of 64 units over the whole feature map, and a dense layer of logits."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, num_classes)
    )


def transposed_convolutions(*channels: int, size: int = 2) -> list[nn.Module]:
    """Return transposed convolutions of stride 2, each followed by ReLU."""
    surplus = size - 2  # pixels that Keras's padding "same" removes, so that the sides double
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [
            nn.ConvTranspose2d(
                before, after, size, stride=2, padding=surplus, output_padding=surplus
            ),
            nn.ReLU(),
        ]
    return layers


def upsampling_convolutions(channels: tuple[int, ...], factors: tuple[int, ...]) -> list[nn.Module]:
    """Return 3x3 convolutions, each followed by ReLU and up-sampling to the nearest pixel."""
    layers: list[nn.Module] = []
    for (before, after), factor in zip(pairwise(channels), factors, strict=True):
        layers += [convolution(before, after), nn.ReLU(), nn.Upsample(scale_factor=factor)]
    return layers


def _flat_dense(features: int, num_classes: int) -> nn.Sequential:
    """Return a dense layer from the whole feature map to the logits of the classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(features, num_classes))


def _pooled_convolutions(*channels: int, pairs: bool = False) -> nn.Sequential:
    """Return 3x3 convolutions with ReLU, one or two of each width, each width with max-pooling."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [convolution(before, after), nn.ReLU()]
        if pairs:
            layers += [convolution(after, after), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    backbone = nn.Sequential(*layers)
    init_like_keras(backbone)
    return backbone
