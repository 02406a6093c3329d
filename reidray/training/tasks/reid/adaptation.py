"""Adapt a recipe to people without attributes, and to few people."""

from dataclasses import replace

import numpy as np

from reidray.config import TrainReidConfig
from reidray.config.sections.network_options import DEFAULT_NETWORKS, NETWORK_OPTIONS
from reidray.config.sources import Sources
from reidray.training.adaptation import adapt_network, is_free
from reidray.training.tasks.reid.validation import LabelledCrops

WITHOUT_ATTRIBUTES = "baseline"
"""The network that learns identity alone, on the backbones of `apr`."""


def adapt_reid(
    config: TrainReidConfig,
    train: LabelledCrops,
    validation: LabelledCrops,
    sources: Sources | None,
) -> tuple[TrainReidConfig, list[str]]:
    """Adapt what nobody asked for to the training and validation people.

    Args:
        config: what to train.
        train: the training images.
        validation: the validation images.
        sources: where the values come from; None where all of them were asked for.

    Returns:
        The configuration, and what was changed, in some words each.
    """
    config, changes = _adapt_network(config, train, sources)
    figure = config.validation.select_by
    unknown = not predicts_attributes(config) or not knows_attributes(validation)
    if figure == "attribute_accuracy" and unknown and is_free("validation.select_by", sources):
        changes.append("the best epoch is that of the best mean_ap, not attribute_accuracy")
        config = replace(config, validation=replace(config.validation, select_by="mean_ap"))
    people, workers = config.batch.people, config.num_workers
    fitting = len(np.unique(train.people)) // workers * workers
    if 2 * workers <= fitting < people and is_free("batch.people", sources):
        changes.append(f"batches of {fitting} people instead of {people}, as there are no more")
        config = replace(config, batch=replace(config.batch, people=fitting))
    return config, changes


def knows_attributes(crops: LabelledCrops) -> bool:
    """Tell whether any attribute of any image is known."""
    return bool((crops.codes >= 0).any())


def predicts_attributes(config: TrainReidConfig) -> bool:
    """Tell whether the network that a configuration names predicts attributes."""
    name = config.network.name or DEFAULT_NETWORKS["reid"]
    return name in NETWORK_OPTIONS and "attributes" in NETWORK_OPTIONS.get(name).predicts


def _adapt_network(
    config: TrainReidConfig, train: LabelledCrops, sources: Sources | None
) -> tuple[TrainReidConfig, list[str]]:
    asked = config.network.name
    free = asked is None or is_free("network.name", sources)
    if free and predicts_attributes(config) and not knows_attributes(train):
        network, lacking = adapt_network(
            config.network, WITHOUT_ATTRIBUTES, sources or Sources(), chosen_for_data=True
        )
        without = f", without {' and '.join(lacking)}" if lacking else ""
        change = f"identity alone, for it names no attributes (network {network.name}{without})"
        return replace(config, network=network), [change]
    if asked is None or sources is None:
        return config, []
    network, lacking = adapt_network(config.network, asked, sources)
    changes = [f"{', '.join(lacking)} left out, which network {asked} lacks"] if lacking else []
    return replace(config, network=network), changes
