"""Check that the validation people can evaluate a network: somebody must be there twice."""

import numpy as np

from reidray.config import TrainReidConfig
from reidray.data.manifest import Manifest
from reidray.data.split import split_by_person
from reidray.errors import UserError
from reidray.metrics.protocols import CAMERA_PROTOCOLS
from reidray.training.tasks.reid.validation import LabelledCrops, label_crops

MOST_NAMED = 10
"""Queries without a match that are named."""

SEEDS_TRIED = 50
"""Splits that are tried, to name one that has queries with a match."""


def validation_crops(config: TrainReidConfig, manifest: Manifest) -> LabelledCrops:
    """Return the validation images, which are ranked by the protocol that is asked for.

    Args:
        config: may ask for one.
        manifest: the images, split.

    Raises:
        UserError: the protocol needs cameras and some image has none.
    """
    protocol = config.validation.protocol
    crops = label_crops(manifest, "val", protocol)
    unknown = int((crops.cameras < 0).sum())
    if protocol in CAMERA_PROTOCOLS and unknown:
        raise UserError(
            f"{config.data}: --validation.protocol {protocol} needs cameras, and {unknown} of "
            f"{len(crops.rows)} validation images have none: leave it out, or choose all"
        )
    return crops


def check_validation(
    config: TrainReidConfig, labelled: Manifest, validation: LabelledCrops
) -> None:
    """Refuse validation people who cannot tell which epoch is the best.

    Nobody is there twice, so that no query has a match, or the attributes that are to be compared
    are unknown.

    Args:
        config: says how the people were split.
        labelled: the images before the split.
        validation: those of the split val.

    Raises:
        UserError: no query has a match; says what would give one.
    """
    if config.validation.select_by == "attribute_accuracy" and not (validation.codes >= 0).any():
        raise UserError(
            f"{config.data}: no attribute of the validation people is known, and the best epoch is "
            "to be that of the best attribute_accuracy: use --validation.select-by mean_ap"
        )
    if validation.ranking_plan().judged:
        return
    people = len(np.unique(validation.people))
    found = (
        f"none of the {people} validation people has a second one"
        if people
        else "val shows nobody known"
    )
    if labelled.split("val").num_rows:
        advice = "add a second image of people in val, of another camera where there are several"
    elif (seed := _seed_with_queries(config, labelled)) is not None:
        advice = f"choose other people by --split-seed {seed}"
    else:
        advice = (
            "add images to the set until some people have two, of different cameras where there "
            "are several"
        )
    raise UserError(
        f"{config.data}: validation looks for another image of each person, and {found}: {advice}"
    )


def validation_notes(validation: LabelledCrops, manifest: Manifest) -> list[str]:
    """Say what limits the figures of a validation, in a line each.

    Args:
        validation: its images.
        manifest: names them.
    """
    plan = validation.ranking_plan()
    people, asked = len(np.unique(validation.people)), int(plan.queries.sum())
    notes = []
    if plan.judged < asked:
        rows = validation.rows[plan.unmatched[:MOST_NAMED]]
        named = manifest.table["path"].take(rows).to_pylist()
        more = ", ..." if len(plan.unmatched) > MOST_NAMED else ""
        notes.append(
            f"validation queries without an image of the same person in another camera, not "
            f"judged: {asked - plan.judged} of {asked} ({', '.join(map(repr, named))}{more})"
        )
    if people == 1:
        notes.append(
            "validation shows one person, so that every ranking is right: raise --val-fraction or "
            "add people"
        )
    return notes


def _seed_with_queries(config: TrainReidConfig, labelled: Manifest) -> int | None:
    """Find a split whose validation people have a query with a match."""
    for seed in range(SEEDS_TRIED):
        split = split_by_person(labelled, val_fraction=config.val_fraction, seed=seed)
        if label_crops(split, "val", config.validation.protocol).ranking_plan().judged:
            return seed
    return None
