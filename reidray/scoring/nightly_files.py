"""Write the files of a nightly run, but for its summary."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import ScoreConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import write_annotations
from reidray.inference.runs.quarantine import write_quarantine
from reidray.models import LoadedModel
from reidray.scoring.gallery_distractors import distractor_table
from reidray.scoring.gallery_ranking import GalleryRanking
from reidray.scoring.incremental_update import StoredImages
from reidray.scoring.ranking_file import write_ranking
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    DISTRACTOR_FILE,
    QUARANTINE_FILE,
    RANKING_FILE,
)


def write_nightly_files(
    folder: Path,
    model: LoadedModel,
    queries: StoredImages,
    gallery: StoredImages,
    ranked: GalleryRanking,
    config: ScoreConfig,
) -> None:
    """Write the ranking, the attributes, the distractor scores and the quarantine.

    Args:
        folder: an empty folder.
        model: the model of the run.
        queries: the queries.
        gallery: the gallery.
        ranked: the results.
        config: `keep_missing` and `distractor_scores` apply.
    """
    (folder / RANKING_FILE).write_bytes(write_ranking(ranked.ranking))
    if predicts_pedestrian_attributes(model):
        rows = attribute_rows(
            gallery.images.paths,
            gallery.indices,
            ranked.attribute_labels,
            keep_missing=config.keep_missing,
        )
        (folder / ATTRIBUTE_FILE).write_bytes(write_annotations(rows))
    if config.distractor_scores and ranked.filtered is not None:
        table = distractor_table(gallery.paths, ranked.filtered.scores)
        (folder / DISTRACTOR_FILE).write_bytes(table)
    bad = {"query": queries.bad, "gallery": gallery.bad}
    (folder / QUARANTINE_FILE).write_bytes(write_quarantine(bad))


def predicts_pedestrian_attributes(model: LoadedModel) -> bool:
    """Return whether the model's attributes are those of `classification_test.csv`."""
    return model.architecture.schema == PEDESTRIAN_SCHEMA


def attribute_rows(
    paths: Sequence[str],
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    keep_missing: bool,
) -> Iterator[tuple[str, Mapping[str, int] | None]]:
    """Yield the path and the attribute labels of each gallery image, in the order of the paths.

    Args:
        paths: N paths.
        indices: (M,) indices of the images that decode.
        labels: (M, A) the pedestrian attributes of these images.
        keep_missing: whether an image that does not decode has a row, with None for labels.
    """
    names = PEDESTRIAN_SCHEMA.names
    positions = np.full(len(paths), -1)
    positions[indices] = np.arange(len(indices))
    for path, position in zip(paths, positions.tolist(), strict=True):
        if position >= 0:
            yield path, dict(zip(names, labels[position].tolist(), strict=True))
        elif keep_missing:
            yield path, None
