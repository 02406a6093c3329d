"""Networks by name, and the description from which one can be built again."""

from dataclasses import dataclass
from difflib import get_close_matches

from reidray.data.attributes import AttributeSchema
from reidray.errors import UserError
from reidray.models.backbones import Backbone
from reidray.models.networks import Network
from reidray.models.networks.person import AttributePersonNetwork, BaselineNetwork

NETWORKS = ("apr", "baseline")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """All it takes to build a network again.

    Attributes:
        name: one of `NETWORKS`.
        backbone: a preset of ours or any timm model.
        num_people: people the identity classifier tells apart.
        schema: attributes it predicts; empty for `baseline`.
        feature_size: width of the dense layer of `apr`.
        dropout: share of that layer's outputs dropped in training.
        height: rows of a crop.
        width: columns of a crop.
    """

    name: str
    backbone: str
    num_people: int
    schema: AttributeSchema = AttributeSchema()
    feature_size: int = 512
    dropout: float = 0.0
    height: int = 128
    width: int = 64


def build_model(name: str, *, weights: str = "none", **overrides: object) -> Network:
    """Build a network by name.

    Args:
        name: one of `NETWORKS`.
        weights: of the backbone: `none`, `imagenet` or a .safetensors file.
        overrides: fields of `NetworkSpec`.

    Raises:
        UserError: the name, the backbone or the weights are not to be had.
    """
    return build_network(NetworkSpec(name=name, **overrides), weights=weights)  # type: ignore[arg-type]


def build_network(spec: NetworkSpec, *, weights: str = "none") -> Network:
    """Build the network a description names; raises `UserError` where it cannot be had."""
    if spec.name not in NETWORKS:
        near = get_close_matches(spec.name, NETWORKS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"network {spec.name!r} is not one of {', '.join(NETWORKS)}: did you mean {near!r}?"
        )
    backbone = Backbone(spec.backbone, weights)
    if spec.name == "baseline":
        return BaselineNetwork(backbone, spec.num_people)
    if not spec.schema.attributes:
        raise UserError(
            "network 'apr' learns attributes and the data has none: "
            "add annotations_train.csv or attr_ columns, or use --network.name baseline"
        )
    return AttributePersonNetwork(
        backbone, spec.num_people, spec.schema.sizes, spec.feature_size, spec.dropout
    )
