"""Adapt a recipe to the data: values that nobody asked for give way to what the images allow."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from reidray.config import NetworkConfig
from reidray.config.sections.network_options import NETWORK_OPTIONS
from reidray.config.sources import Source, Sources

ALWAYS = ("name", "weights")
"""Settings that every network has."""


def adapt_network(
    network: NetworkConfig, name: str, sources: Sources, *, chosen_for_data: bool = False
) -> tuple[NetworkConfig, list[str]]:
    """Set the network's name and leave out the settings that the network lacks.

    A recipe's setting gives way to a network that a file or a flag names, and a file's to one that
    a flag names.

    Args:
        network: the configuration.
        name: of the network, registered or unknown.
        sources: where the values come from.
        chosen_for_data: whether nobody named the network, so that every setting gives way.

    Returns:
        The configuration, and the settings left out, such as `feature_size`.
    """
    if name not in NETWORK_OPTIONS:
        return network, []
    own = {field.name for field in fields(NETWORK_OPTIONS.get(name))}
    named_by = sources.of("network.name")
    lacking = [
        key
        for key, value in asdict(network).items()
        if value is not None
        and key not in (*ALWAYS, *own)
        and (chosen_for_data or sources.of(f"network.{key}") < named_by)
    ]
    changes: dict[str, Any] = {"name": name, **dict.fromkeys(lacking)}
    return replace(network, **changes), lacking


def is_free(key: str, sources: Sources | None) -> bool:
    """Tell whether a value may be adapted: it is a recipe's or a default, and nobody's wish."""
    return sources is not None and sources.of(key) is Source.RECIPE


def adaptation_notes(changes: Sequence[str]) -> tuple[str, ...]:
    """Say in one line how a recipe was adapted; nothing where it was not."""
    return (f"the recipe is adapted to the data: {'; '.join(changes)}",) if changes else ()
