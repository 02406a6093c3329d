"""Predict what people wear, with the network of the reports."""

from torch import Tensor, nn

from reidray.config.options.report_networks import AttributesVggOptions
from reidray.data.attribute_schema import NO_YES, Attribute, AttributeSchema
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.factory import register_network
from reidray.models.networks.layers import init_like_keras, pooled_size, vgg_blocks
from reidray.models.networks.network import UNIT_RGB, Network, Outputs

BASIC_COLOURS = (
    "black",
    "blue",
    "brown",
    "green",
    "grey",
    "orange",
    "pink",
    "purple",
    "red",
    "white",
    "yellow",
)
LENGTHS = ("long", "short")
CLOTHING_SCHEMA = AttributeSchema(
    (
        Attribute("gender", ("male", "female")),
        Attribute("torso_type", LENGTHS),
        Attribute("torso_colour", BASIC_COLOURS),
        Attribute("leg_type", LENGTHS),
        Attribute("leg_colour", BASIC_COLOURS),
        Attribute("luggage", NO_YES),
    )
)
"""The attributes of the report's images; the colours are the eleven basic colour terms
(Berlin and Kay 1969)."""


class ClothingNetwork(Network):
    """Predict attributes with four VGG blocks, dense layers and a classifier for each attribute.

    8,340,630 trainable parameters at 100x60 with `CLOTHING_SCHEMA`: convolutions with biases
    73,608, batch normalisation 2 x (8 + 16 + 32 + 64) = 240, six dense layers 6 x (5,376 x 256 +
    256) = 8,259,072, classifiers 256 x 30 + 30 = 7,710. The convolutions are padded and three
    poolings, none after the last block, leave 100x60 -> 50x30 -> 25x15 -> 12x7 pixels: 64 x 12 x 7
    = 5,376 features.

    Args:
        height: rows of an image.
        width: columns of an image.
        schema: the attributes.
        options: the share of dropped channels, and whether attributes share dense layers.
    """

    def __init__(
        self, height: int, width: int, schema: AttributeSchema, options: AttributesVggOptions
    ) -> None:
        super().__init__(UNIT_RGB)
        if not schema.attributes:
            raise UserError(
                "network 'attributes_vgg' learns attributes and its schema has none: give it "
                "data with attributes"
            )
        self.blocks = nn.Sequential(
            vgg_blocks((3, 8, 16, 32, 64), options.dropout, dropout_first=True), nn.Flatten()
        )
        features = 64 * pooled_size(height, width, 8)
        parts = [body_part(name) if options.shared_dense else name for name in schema.names]
        dense = list(dict.fromkeys(parts))
        self.dense_of_attribute = tuple(dense.index(part) for part in parts)
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(features, 256), nn.ReLU()) for _ in dense
        )
        self.attributes = nn.ModuleList(nn.Linear(256, values) for values in schema.sizes)
        init_like_keras(self)

    def forward(self, crops: Tensor) -> Outputs:
        """Return the attributes of crops (B, 3, H, W), uint8 or float32 in 0..255."""
        features = self.blocks(self.scale(crops))
        hidden = [dense(features) for dense in self.dense]
        logits = tuple(
            classifier(hidden[dense])
            for classifier, dense in zip(self.attributes, self.dense_of_attribute, strict=True)
        )
        nothing = features.new_empty((features.shape[0], 0))
        return Outputs(nothing, nothing, nothing, logits)


def body_part(attribute: str) -> str:
    """Return the word before the first underscore of an attribute's name: torso of torso_colour."""
    return attribute.partition("_")[0]


@register_network("attributes_vgg", schema=CLOTHING_SCHEMA)
def build_attributes_vgg(
    architecture: Architecture[AttributesVggOptions], _: str
) -> ClothingNetwork:
    """Build `attributes_vgg`."""
    return ClothingNetwork(*architecture.size, architecture.schema, architecture.options)
