"""Networks by name, and the description from which one can be built again."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from reidray.data.attributes import PEDESTRIAN_SCHEMA, AttributeSchema
from reidray.errors import UserError
from reidray.models.backbones import Backbone
from reidray.models.networks import Network
from reidray.models.networks.person import AttributePersonNetwork, BaselineNetwork


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """All it takes to build a network again. What a network does not have is 0 or empty.

    Attributes:
        name: one of `NETWORKS`.
        height: rows of an image.
        width: columns of an image.
        backbone: a preset of ours or any timm model, of `apr` and `baseline`.
        num_people: people the identity classifier tells apart.
        schema: attributes it predicts.
        feature_size: width of the dense layer of `apr`.
        dropout: share of that layer's outputs dropped in training.
    """

    name: str
    height: int
    width: int
    backbone: str = ""
    num_people: int = 0
    schema: AttributeSchema = AttributeSchema()
    feature_size: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class Blueprint:
    """How a network is built, and from what.

    Attributes:
        build: makes it from a description and the weights to start from.
        fields: the fields of `NetworkSpec` that it has, with the values of its paper or report.
        pretrained: whether it can start from weights other than `none`.
    """

    build: Callable[[NetworkSpec, str], Network]
    fields: dict[str, Any]
    pretrained: bool = False


def _baseline(spec: NetworkSpec, weights: str) -> Network:
    return BaselineNetwork(Backbone(spec.backbone, weights), spec.num_people)


def _apr(spec: NetworkSpec, weights: str) -> Network:
    if not spec.schema.attributes:
        raise UserError(
            "network 'apr' learns attributes and the data has none: "
            "add annotations_train.csv or attr_ columns, or use --network.name baseline"
        )
    backbone = Backbone(spec.backbone, weights)
    return AttributePersonNetwork(
        backbone, spec.num_people, spec.schema.sizes, spec.feature_size, spec.dropout
    )


# ResNet-50 and the 751 training people of Market-1501, whose crops are 128x64.
MARKET = {"height": 128, "width": 64, "backbone": "resnet50", "num_people": 751}

NETWORKS: dict[str, Blueprint] = {
    "apr": Blueprint(
        _apr,
        {**MARKET, "schema": PEDESTRIAN_SCHEMA, "feature_size": 512, "dropout": 0.0},
        pretrained=True,
    ),
    "baseline": Blueprint(_baseline, MARKET, pretrained=True),
}


def build_model(name: str, *, weights: str = "none", **overrides: object) -> Network:
    """Build a network by name; without overrides it is that of its paper or report.

    Args:
        name: one of `NETWORKS`.
        weights: of the backbone: `none`, `imagenet` or a .safetensors file.
        overrides: fields of `NetworkSpec`, of those that the network has.

    Raises:
        UserError: the name, a field, the backbone or the weights are not to be had.
    """
    return build_network(describe_network(name, **overrides), weights=weights)


def describe_network(name: str, **overrides: object) -> NetworkSpec:
    """The description of a network; without overrides it is that of its paper or report.

    Raises:
        UserError: there is no such network, it has no such field, or a value cannot be.
    """
    fields = _blueprint(name).fields
    for field, value in overrides.items():
        if field not in fields:
            raise UserError(f"network {name!r} has no {field}: it has {', '.join(fields)}")
        _check_value(field, value, like=fields[field])
    return NetworkSpec(name=name, **(fields | overrides))


def build_network(spec: NetworkSpec, *, weights: str = "none") -> Network:
    """Build the network of a description.

    Args:
        spec: the description.
        weights: of the backbone: `none`, `imagenet` or a .safetensors file.

    Raises:
        UserError: the network or the weights are not to be had.
    """
    blueprint = _blueprint(spec.name)
    if weights != "none" and not blueprint.pretrained:
        raise UserError(
            f"network {spec.name!r} starts from random weights: "
            f"it has no backbone that {weights!r} could fill"
        )
    return blueprint.build(spec, weights)


def _blueprint(name: str) -> Blueprint:
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"network {name!r} is not one of {', '.join(NETWORKS)}: did you mean {near!r}?"
        )
    return NETWORKS[name]


def _check_value(field: str, value: object, *, like: object) -> None:
    """Refuse a value that is not like the one a network has where nothing is said."""
    if isinstance(like, int):
        possible, expected = type(value) is int and value > 0, "a whole number from 1"
    elif isinstance(like, float):
        possible = isinstance(value, int | float) and 0 <= value < 1
        expected = "0 or more and under 1"
    else:
        possible, expected = isinstance(value, type(like)), type(like).__name__
    if not possible:
        raise UserError(f"{field} {value!r}: expected {expected}")
