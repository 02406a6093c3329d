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
from reidray.scoring.embedder import ImageSet
from reidray.scoring.increment import StoredSet
from reidray.scoring.ranking_file import write_ranking

RANKING_FILE = "reid_test.txt"
ATTRIBUTE_FILE = "classification_test.csv"
QUARANTINE_FILE = "quarantine.csv"
SUMMARY_FILE = "scoring.json"
OUTPUT_FILES = frozenset({RANKING_FILE, ATTRIBUTE_FILE, QUARANTINE_FILE, SUMMARY_FILE})


@dataclass(frozen=True)
class NightlyImages:
    """The images of a night, and what is known of them.

    Attributes:
        sets: queries and gallery.
        found: where each set's embeddings are.
        codes: (M, A) int64, attribute codes of the gallery images that decode.
    """

    sets: Sequence[ImageSet]
    found: Sequence[StoredSet]
    codes: NDArray[np.int64]


def predicts_pedestrians(model: LoadedModel) -> bool:
    """Whether the model's attributes are those of `classification_test.csv`."""
    return model.spec.schema == PEDESTRIAN_SCHEMA


def write_files(
    folder: Path, model: LoadedModel, images: NightlyImages, ranking: Mapping[str, Sequence[str]]
) -> None:
    """Write rankings, attributes and quarantine into an empty folder."""
    (folder / RANKING_FILE).write_bytes(write_ranking(ranking))
    if predicts_pedestrians(model):
        (folder / ATTRIBUTE_FILE).write_bytes(_attributes(images))
    text = io.StringIO(newline="")
    quarantine = csv.writer(text, lineterminator="\n")
    quarantine.writerow(("file", "split", "reason"))
    for split, part in zip(("query", "gallery"), images.found, strict=True):
        quarantine.writerows((image.path, split, image.reason) for image in part.bad)
    (folder / QUARANTINE_FILE).write_bytes(text.getvalue().encode())


def _attributes(images: NightlyImages) -> bytes:
    """The attribute file: a row for each gallery image that decodes."""
    paths, rows = images.sets[1].paths, images.found[1].rows
    return write_annotations(
        (paths[row], dict(zip(PEDESTRIAN_SCHEMA.names, map(int, codes), strict=True)))
        for row, codes in zip(rows, images.codes, strict=True)
    )
