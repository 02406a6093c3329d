"""Choose the network of a training, and adapt its settings to the network and the data."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from reidray.config import NetworkConfig
from reidray.config.sections.network_options import DEFAULT_NETWORKS, NETWORK_OPTIONS
from reidray.config.sources import Source, Sources
from reidray.errors import UserError
from reidray.models.architecture import Architecture, choose_architecture
from reidray.models.backbones import check_backbones
from reidray.models.factory import build_network, check_parameter_count
from reidray.models.networks.network import Network


def resolve_network(
    config: NetworkConfig, task: str, data_fields: dict[str, object]
) -> tuple[NetworkConfig, Architecture[Any]]:
    """Resolve the architecture of a network, and run it once to check it.

    Args:
        config: network configuration; None leaves a setting to the network or the data.
        task: `reid`, `pets` or `attributes`.
        data_fields: fields of `Architecture` that follow from the data, such as `num_people`.

    Returns:
        The configuration with a value for every setting that the network has, and the
        architecture.

    Raises:
        UserError: the network cannot be built, or does not train for this task.
    """
    name = config.name or DEFAULT_NETWORKS[task]
    architecture = choose_architecture(task, name, config.options, data_fields)
    check_parameter_count(architecture)
    # The classifier of a million people would take gigabytes.
    network = build_network(replace(architecture, num_people=min(architecture.num_people, 2)))
    check_backbones(network)
    if task == "reid":
        _check_embedding(network, architecture)
    return config.replace(name=name, **asdict(architecture.options)), architecture


def _check_embedding(network: Network, architecture: Architecture[Any]) -> None:
    """Run a network once over a black image, and check its embedding.

    Raises:
        UserError: the embedding is empty, or has another length than the network says.
    """
    image = torch.zeros(1, 3, *architecture.size, dtype=torch.uint8)
    with torch.inference_mode():
        found = tuple(network.eval()(image).embedding.shape)
    length = network.embedding_size
    if not length or found != (1, length):
        raise UserError(
            f"network {architecture.name!r} gives one image an embedding of the shape {found}, and "
            f"its embedding_size is {length}: give the embedding this length, of 1 or more"
        )


def adapt_network(
    network: NetworkConfig, name: str, sources: Sources, *, chosen_for_data: bool = False
) -> tuple[NetworkConfig, list[str]]:
    """Set the network's name, and drop the settings that this network does not have.

    A file or a flag that names the network overrides the recipe's settings, and a flag overrides
    those of a file.

    Args:
        network: network configuration.
        name: name of the network, registered or unknown.
        sources: sources of the values.
        chosen_for_data: whether the data chose the network, so that every setting may be dropped.

    Returns:
        The configuration, and the names of the dropped settings, such as `feature_size`.
    """
    if name not in NETWORK_OPTIONS:
        return network, []
    own_settings = {field.name for field in fields(NETWORK_OPTIONS.get(name))}
    named_by = sources.of("network.name")
    dropped = [
        key
        for key in network.options
        if key not in own_settings and (chosen_for_data or sources.of(f"network.{key}") < named_by)
    ]
    return network.replace(name=name, **dict.fromkeys(dropped)), dropped


def is_adaptable(key: str, sources: Sources | None) -> bool:
    """Return whether the data may change a value, because the recipe or a default set it."""
    return sources is not None and sources.of(key) is Source.RECIPE


def adaptation_notes(changes: Sequence[str]) -> tuple[str, ...]:
    """Return one line that lists the changes of a recipe, or nothing where there are none."""
    return (f"the recipe is adapted to the data: {'; '.join(changes)}",) if changes else ()
