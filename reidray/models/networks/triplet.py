"""Build the reports' re-ID networks: small VGGs that train with triplets alone."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from reidray.config.options.report_networks import GrayTripletOptions, RgbTripletOptions
from reidray.models.architecture import Architecture
from reidray.models.factory import register_network
from reidray.models.networks.layers import convolution, init_like_keras, pooled_size, vgg_blocks
from reidray.models.networks.network import UNIT_GREY, UNIT_RGB, Network, Outputs, PixelScaling


class TripletNetwork(Network):
    """Scale the output of some layers to length 1 for the embedding, without a classifier."""

    def __init__(self, pixels: PixelScaling, layers: nn.Sequential, embedding_size: int) -> None:
        super().__init__(pixels, embedding_size)
        self.layers = layers
        init_like_keras(layers)

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops (B, 3, H, W), uint8 or float32 in 0..255."""
        embedding = functional.normalize(self.layers(self.scale(crops)))
        return Outputs(embedding, embedding, embedding.new_empty((embedding.shape[0], 0)), ())


@register_network("vgg_triplet_rgb")
def build_vgg_triplet_rgb(architecture: Architecture[RgbTripletOptions], _: str) -> TripletNetwork:
    """Build three blocks of two convolutions, each with batch normalisation and swish or ReLU.

    302,205 trainable parameters at 64x32 with 301 values: convolutions with biases 108,816, batch
    normalisation 448, dense 640 x 301 + 301 = 192,941. So the embedding has no batch normalisation.
    As 640 = 64 x 5 x 2, the convolutions are padded: 64x32 -> 32x16 -> 16x8 -> 5x2.
    """
    activation = {"swish": nn.SiLU, "relu": nn.ReLU}[architecture.options.activation]
    layers: list[nn.Module] = []
    for (before, after), size, pool in zip(
        pairwise((3, 16, 32, 64)), (7, 5, 3), (2, 2, 3), strict=True
    ):
        for channels in (before, after):
            layers += [convolution(channels, after, size), nn.BatchNorm2d(after), activation()]
        layers.append(nn.MaxPool2d(pool))
    features = 64 * pooled_size(*architecture.size, 12)
    embedding_size = architecture.options.embedding_size
    layers += [nn.Flatten(), nn.Linear(features, embedding_size)]
    return TripletNetwork(UNIT_RGB, nn.Sequential(*layers), embedding_size)


@register_network("vgg_triplet_gray")
def build_vgg_triplet_gray(
    architecture: Architecture[GrayTripletOptions], _: str
) -> TripletNetwork:
    """Build three blocks of two 3x3 convolutions and a dense layer, over luminance.

    1,075,720 trainable parameters at 64x32 with 32 values: convolutions with biases 18,040, their
    batch normalisation 2 x (8 + 16 + 32) = 112, dense 4,096 x 256 + 256 = 1,048,832, its batch
    normalisation 512, embedding 256 x 32 + 32 = 8,224. So each block has one batch normalisation,
    and the embedding has none. As 4,096 = 32 x 16 x 8, the convolutions are padded. The counts do
    not determine the position of normalisation and ReLU in a block: here they follow the second
    convolution.
    """
    embedding_size = architecture.options.embedding_size
    layers = nn.Sequential(
        vgg_blocks((1, 8, 16, 32), architecture.options.dropout),
        nn.Flatten(),
        nn.Linear(32 * pooled_size(*architecture.size, 4), 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, embedding_size),
    )
    return TripletNetwork(UNIT_GREY, layers, embedding_size)
