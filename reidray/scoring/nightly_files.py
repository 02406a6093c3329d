"""The files that a night leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import ScoreConfig
from reidray.data.annotations import write_annotations
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.inference.image_batches import ImageSet
from reidray.models import LoadedModel
from reidray.scoring.distractor_filter import FilteredGallery
from reidray.scoring.gallery_distractors import distractor_table
from reidray.scoring.incremental_update import StoredSet
from reidray.scoring.quarantine import attribute_rows, write_quarantine
from reidray.scoring.ranking_file import write_ranking
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    DISTRACTOR_FILE,
    QUARANTINE_FILE,
    RANKING_FILE,
)


@dataclass(frozen=True)
class NightlySet:
    """Images of a night, and where their embeddings are kept."""

    images: ImageSet
    stored: StoredSet


@dataclass(frozen=True)
class RankedNight:
    """What a night came to.

    Attributes:
        queries: its queries.
        gallery: its gallery.
        ranking: query name to its nearest gallery names, the best first.
        codes: (M, A) int64, attribute codes of the gallery images that decode.
        sifted: which of these were taken for people; None where it was not asked for.
    """

    queries: NightlySet
    gallery: NightlySet
    ranking: Mapping[str, Sequence[str]]
    codes: NDArray[np.int64]
    sifted: FilteredGallery | None


def predicts_pedestrians(model: LoadedModel) -> bool:
    """Tell whether the model's attributes are those of `classification_test.csv`."""
    return model.architecture.schema == PEDESTRIAN_SCHEMA


def write_files(folder: Path, model: LoadedModel, night: RankedNight, config: ScoreConfig) -> None:
    """Write all but the summary into an empty folder.

    Args:
        folder: it.
        model: of the night.
        night: what it came to.
        config: what was asked for.
    """
    (folder / RANKING_FILE).write_bytes(write_ranking(night.ranking))
    queries, gallery = night.queries, night.gallery
    if predicts_pedestrians(model):
        rows = attribute_rows(
            gallery.images.paths,
            gallery.stored.rows,
            night.codes,
            keep_missing=config.keep_missing,
        )
        (folder / ATTRIBUTE_FILE).write_bytes(write_annotations(rows))
    if night.sifted is not None and config.distractor_scores:
        names = [gallery.images.paths[row] for row in gallery.stored.rows]
        table = distractor_table(names, night.sifted.scores)
        (folder / DISTRACTOR_FILE).write_bytes(table)
    bad = {"query": queries.stored.bad, "gallery": gallery.stored.bad}
    (folder / QUARANTINE_FILE).write_bytes(write_quarantine(bad))
