"""Build networks by name. Each network registers the function that builds it, beside its code."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from reidray.config.sections.network_options import NETWORK_OPTIONS
from reidray.config.sections.weight_names import MIN_MATCH, NAMED_WEIGHTS
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.backbones.timm_bodies import without_memory
from reidray.models.networks.network import Network
from reidray.models.weights import load_weights, read_weights
from reidray.registry import Registry

Build = TypeVar("Build", bound=Callable[[Architecture[Any], str], Network])

MAX_WEIGHTS = 2**30
"""The most weights of a network: 4 GiB in float32. A training needs four times as much memory."""


class NetworkBuilder(NamedTuple):
    """Hold the function that builds a network, and the values of its paper or report.

    Attributes:
        build: builds the network from its architecture and the weights to start from.
        published: options and labels of the paper or report.
    """

    build: Callable[[Architecture[Any], str], Network]
    published: dict[str, Any]


NETWORKS: Registry[NetworkBuilder] = Registry(
    "network", "reidray.models.networks", options=NETWORK_OPTIONS
)
"""The builder of each network by the network's name."""


def register_network(name: str, **published: Any) -> Callable[[Build], Build]:
    """Return a decorator that registers the function, or the class, that builds a network.

    The function takes the `Architecture` and the weights of the backbone: `none`, or `imagenet`
    where its options have `pretrained`. Weights of a file are loaded later, by their names, into
    the network that the function returns.

    Args:
        name: name of the network; its options are registered by `register_network_options`.
        published: options and labels of the network's paper or report, which `build_model` takes
            where nothing else is given.
    """

    def decorate(build: Build) -> Build:
        NETWORKS.add(name, NetworkBuilder(build, published), origin=build)
        return build

    return decorate


def build_architecture(name: str, **values: Any) -> Architecture[Any]:
    """Return the architecture of a network; without values it is that of its paper or report.

    Args:
        name: name of the network.
        values: options of the network, and `num_people`, `num_classes` and `schema` where the
            network predicts them.

    Raises:
        UserError: no such network exists, it has no such option, or a value is not possible.
    """
    NETWORK_OPTIONS.get(name)  # its message speaks of the names that exist
    return Architecture.from_values(name, {**NETWORKS.get(name).published, **values})


def build_model(name: str, *, weights: str = "none", **values: Any) -> Network:
    """Build a network by name; the default values are those of its paper or report.

    Args:
        name: name of the network.
        weights: weights to start from: `none`, `imagenet`, or a file, a model directory or a name
            on a hub, as `network.weights` takes them.
        values: options of the network, and `num_people`, `num_classes` and `schema` where the
            network predicts them.

    Raises:
        UserError: the network does not exist, or a value or the weights are not valid.
    """
    return build_network(build_architecture(name, **values), weights=weights)


def build_network(architecture: Architecture[Any], *, weights: str = "none") -> Network:
    """Build the network of an architecture.

    Args:
        architecture: the architecture.
        weights: weights to start from: `none`, `imagenet`, or a file, a model directory or a name
            on a hub, as `network.weights` takes them.

    Raises:
        UserError: the network takes no ImageNet weights, its backbone does not exist, or the
            weights cannot be loaded.
    """
    if weights == "imagenet" and not architecture.options.pretrained:
        raise UserError(
            f"network {architecture.name!r} starts from random weights or those of a file, and not "
            f"from {weights!r}: use `network.weights=none`, or another `network.name`"
        )
    build = NETWORKS.get(architecture.name).build
    if weights in NAMED_WEIGHTS:
        return build(architecture, weights)
    network = build(architecture, "none")
    load_weights(network, read_weights(weights), min_match=MIN_MATCH)
    return network


def build_without_memory(architecture: Architecture[Any]) -> Network:
    """Build the network of an architecture without memory for its weights."""
    with without_memory():
        return build_network(architecture)


def check_parameter_count(architecture: Architecture[Any]) -> None:
    """Refuse a network of more weights than a machine has memory for, before they are made.

    Raises:
        UserError: the network has more than `MAX_WEIGHTS` weights.
    """
    count = sum(weight.numel() for weight in build_without_memory(architecture).parameters())
    if count > MAX_WEIGHTS:
        raise UserError(
            f"network {architecture.name!r} of {architecture.height} x {architecture.width} pixels "
            f"has {count:,} weights, more than {MAX_WEIGHTS:,}: "
            "lower `network.height` and `network.width`, or choose a smaller network"
        )
