"""Read the weights that a training starts from, once and before Ray, and report what they fill."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from safetensors.torch import save

from reidray.config import TrainingConfig
from reidray.models.architecture import Architecture
from reidray.models.factory import build_network
from reidray.models.weights import (
    WeightReport,
    WeightSource,
    backbone_prefix,
    match_weights,
    read_weights,
)
from reidray.storage.location import Location

WEIGHTS_REPORT = "weights.json"
"""File of a run directory that tells what the first weights filled."""


@dataclass(frozen=True)
class FirstWeights:
    """Hold the weights that trainings start from. Workers get them, and read no file.

    Attributes:
        sources: the weights by what `network.weights` and, for ImageNet's, the network's options
            say. Those of a sweep may be several.
        report: what became of the weights of the configuration; None where it starts from random
            ones.
    """

    sources: Mapping[str, WeightSource] = field(default_factory=dict)
    report: WeightReport | None = None

    def prepare(self, config: TrainingConfig, architecture: Architecture[Any]) -> Self:
        """Return the weights with those of a configuration, which are read unless they are known.

        Args:
            config: configuration of the training.
            architecture: description of its network.

        Raises:
            UserError: the weights cannot be read, or do not fit the network.
        """
        if config.network.weights == "none":
            return type(self)(self.sources)
        key = _key(config, architecture)
        source = self.sources.get(key) or _read(config, architecture)
        network = build_network(architecture)
        found = match_weights(network, source, min_match=config.network.weights_min_match)
        return type(self)({**self.sources, key: source}, found.report)

    def source_of(
        self, config: TrainingConfig, architecture: Architecture[Any]
    ) -> WeightSource | None:
        """Return the weights that a configuration starts from; None for random ones."""
        return self.sources.get(_key(config, architecture))


def read_weights_report(run: Location) -> WeightReport | None:
    """Return the report in a run directory; None where it has none, or a damaged one."""
    if not run.join(WEIGHTS_REPORT).is_file():
        return None
    try:
        return WeightReport.from_json(json.loads(run.read_bytes(WEIGHTS_REPORT)))
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return None


def _key(config: TrainingConfig, architecture: Architecture[Any]) -> str:
    """Return what the weights of a configuration depend on."""
    weights = config.network.weights
    if weights != "imagenet":
        return weights
    return f"imagenet {architecture.name} {asdict(architecture.options)}"


def _read(config: TrainingConfig, architecture: Architecture[Any]) -> WeightSource:
    """Read the weights of a configuration.

    The weights `imagenet` are those that the builder of the network loads into its backbone.

    Raises:
        UserError: the weights cannot be read.
    """
    if config.network.weights != "imagenet":
        return read_weights(config.network.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(architecture, weights="imagenet")
    prefix = backbone_prefix(network)
    values = {
        name: value.contiguous()
        for name, value in network.state_dict().items()
        if name.startswith(prefix)
    }
    return WeightSource("imagenet", "imagenet", save(values))
