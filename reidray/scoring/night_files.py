"""The files that a night leaves."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidray.data.annotations import write_annotations
from reidray.data.attributes import PEDESTRIAN_SCHEMA
from reidray.models import LoadedModel
from reidray.scoring.image_batches import ImageSet
from reidray.scoring.increment import StoredSet
from reidray.scoring.ranking_file import write_ranking

RANKING_FILE = "reid_test.txt"
ATTRIBUTE_FILE = "classification_test.csv"
QUARANTINE_FILE = "quarantine.csv"
SUMMARY_FILE = "scoring.json"
OUTPUT_FILES = frozenset({RANKING_FILE, ATTRIBUTE_FILE, QUARANTINE_FILE, SUMMARY_FILE})


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
    """

    queries: NightlySet
    gallery: NightlySet
    ranking: Mapping[str, Sequence[str]]
    codes: NDArray[np.int64]


def predicts_pedestrians(model: LoadedModel) -> bool:
    """Whether the model's attributes are those of `classification_test.csv`."""
    return model.spec.schema == PEDESTRIAN_SCHEMA


def write_files(folder: Path, model: LoadedModel, night: RankedNight) -> None:
    """Write rankings, attributes and quarantine into an empty folder."""
    (folder / RANKING_FILE).write_bytes(write_ranking(night.ranking))
    if predicts_pedestrians(model):
        (folder / ATTRIBUTE_FILE).write_bytes(_attributes(night))
    text = io.StringIO(newline="")
    quarantine = csv.writer(text, lineterminator="\n")
    quarantine.writerow(("file", "split", "reason"))
    for split, part in (("query", night.queries), ("gallery", night.gallery)):
        quarantine.writerows((image.path, split, image.reason) for image in part.stored.bad)
    (folder / QUARANTINE_FILE).write_bytes(text.getvalue().encode())


def _attributes(night: RankedNight) -> bytes:
    """The attribute file: a row for each gallery image that decodes."""
    paths, rows = night.gallery.images.paths, night.gallery.stored.rows
    return write_annotations(
        (paths[row], dict(zip(PEDESTRIAN_SCHEMA.names, map(int, codes), strict=True)))
        for row, codes in zip(rows, night.codes, strict=True)
    )
