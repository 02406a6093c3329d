"""The nightly run: two folders of images in, ranked lists and attributes out."""

import csv
import io
import json
import posixpath
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reidray.data.annotations import write_annotations
from reidray.data.attributes import PEDESTRIAN_SCHEMA
from reidray.data.decoding import BadImage, check_bad_images
from reidray.data.outputs import local_folder, staged_directory
from reidray.data.storage import Location, list_images
from reidray.models import LoadedModel, load_person_model
from reidray.retrieval import top_k
from reidray.scoring.config import ScoreConfig
from reidray.scoring.distractors import DISTRACTOR_FILE, distractor_table
from reidray.scoring.embedder import EmbeddedSet, ImageSet, embed_sets, plan_pool
from reidray.scoring.ranking_file import check_names, write_ranking
from reidray.scoring.sifting import sift

RANKING_FILE = "reid_test.txt"
ATTRIBUTE_FILE = "classification_test.csv"
QUARANTINE_FILE = "quarantine.csv"
SUMMARY_FILE = "scoring.json"
OUTPUT_FILES = frozenset(
    {RANKING_FILE, ATTRIBUTE_FILE, DISTRACTOR_FILE, QUARANTINE_FILE, SUMMARY_FILE}
)


NO_ATTRIBUTES = "the model does not predict the twelve pedestrian attributes"


class Stopwatch:
    """Seconds of each stage of a run.

    Attributes:
        seconds: by stage, in their order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Say which stage has just ended."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now


def score_night(
    config: ScoreConfig, session: AbstractContextManager[None] | None = None
) -> dict[str, Any]:
    """Rank the gallery for every query, predict its attributes and publish the files together.

    The output folder gets `reid_test.txt`, `classification_test.csv` where the model predicts the
    pedestrian attributes, `distractors.csv` where it is asked for, `quarantine.csv` and
    `scoring.json`; all but the last are the same bytes for the same model and images, however many
    workers there are.

    Args:
        config: what to score.
        session: a connection to Ray, opened once everything has been checked and closed after the
            embedding; None where Ray is connected already.

    Returns:
        What `scoring.json` holds, with the output folder and the images per second.

    Raises:
        UserError: model, images or output are not what they should be, the cluster cannot place
            the workers, too many images do not decode, or all of the gallery is taken for
            distractors. The output folder is then untouched.
    """
    watch = Stopwatch()
    output = local_folder(config.output)
    with staged_directory(output, OUTPUT_FILES) as staging:
        model = load_person_model(config.model)
        sets = list_set(config.queries), list_set(config.gallery)
        watch.lap("check")
        with session or nullcontext():
            pool = plan_pool(config.num_workers, config.use_gpu)
            watch.lap("ray start")
            found = embed_sets(model, sets, pool)
            watch.lap("embed")
        watch.lap("ray stop")
        for images, embedded in zip(sets, found, strict=True):
            check_bad(images, embedded, config.max_bad)
        metric = config.metric or model.card.metric
        queries, gallery = found
        sifted = sift(queries, gallery, metric, config)
        ranked = queries, sifted.ranked
        ranking = rank(sets, ranked, config.top_k, metric, config.max_distance)
        watch.lap("rank")
        write_files(staging, model, ranking, sets, found)
        if config.distractor_scores:
            names = [sets[1].paths[row] for row in gallery.rows]
            (staging / DISTRACTOR_FILE).write_bytes(distractor_table(names, sifted.scores))
        watch.lap("write")
        summary = {
            "model": model.model_id,
            "queries": len(sets[0].paths),
            "gallery": len(sets[1].paths),
            "quarantined": sum(len(embedded.bad) for embedded in found),
            "top_k": config.top_k,
            "metric": metric,
            "max_distance": config.max_distance,
            "max_distractor_score": config.max_distractor_score,
            "distractors_left_out": len(gallery.rows) - len(sifted.ranked.rows),
            "queries_without_names": sum(not names for names in ranking.values()),
            "attributes": ATTRIBUTE_FILE if predicts_pedestrians(model) else NO_ATTRIBUTES,
            "workers": pool.workers,
            "stages": watch.seconds,
            "versions": {name: version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    pace = round(sum(len(images.paths) for images in sets) / watch.seconds["embed"], 1)
    return {"output": str(output), **summary, "images_per_second": pace}


def list_set(uri: str) -> ImageSet:
    """All images of a folder, sorted by name.

    Raises:
        UserError: the folder is missing or empty, or the output files cannot carry a name.
    """
    location = Location(uri)
    paths = tuple(list_images(location))
    check_names(paths)
    return ImageSet(location, paths)


def check_bad(images: ImageSet, embedded: EmbeddedSet, max_bad: float) -> None:
    """Go on if few enough images of a set failed to decode; the error names them in full.

    Raises:
        UserError: more than the share `max_bad` failed.
    """
    located = [
        BadImage(posixpath.join(images.location.uri, image.path), image.reason)
        for image in embedded.bad
    ]
    check_bad_images(located, len(images.paths), max_bad)


def rank(
    sets: Sequence[ImageSet],
    found: Sequence[EmbeddedSet],
    k: int,
    metric: str,
    max_distance: float | None,
) -> dict[str, list[str]]:
    """Query name to its k nearest gallery names within `max_distance`.

    A query that did not decode has none.
    """
    (queries, gallery), (query, candidates) = sets, found
    _, indices = top_k(
        query.embeddings,
        candidates.embeddings,
        min(k, len(candidates.rows)),
        metric=metric,
        max_distance=max_distance,
    )
    ranking: dict[str, list[str]] = {path: [] for path in queries.paths}
    for row, nearest in zip(query.rows, indices, strict=True):
        within = candidates.rows[nearest[nearest >= 0]]
        ranking[queries.paths[row]] = [gallery.paths[index] for index in within]
    return ranking


def predicts_pedestrians(model: LoadedModel) -> bool:
    """Whether the model's attributes are those of `classification_test.csv`."""
    return model.spec.schema == PEDESTRIAN_SCHEMA


def write_files(
    folder: Path,
    model: LoadedModel,
    ranking: dict[str, list[str]],
    sets: Sequence[ImageSet],
    found: Sequence[EmbeddedSet],
) -> None:
    """Write rankings, attributes and quarantine into an empty folder."""
    (folder / RANKING_FILE).write_bytes(write_ranking(ranking))
    gallery, embedded = sets[1], found[1]
    if predicts_pedestrians(model):
        rows = (
            (gallery.paths[row], dict(zip(PEDESTRIAN_SCHEMA.names, map(int, codes), strict=True)))
            for row, codes in zip(embedded.rows, embedded.codes, strict=True)
        )
        (folder / ATTRIBUTE_FILE).write_bytes(write_annotations(rows))
    text = io.StringIO(newline="")
    quarantine = csv.writer(text, lineterminator="\n")
    quarantine.writerow(("file", "split", "reason"))
    for split, part in zip(("query", "gallery"), found, strict=True):
        quarantine.writerows((image.path, split, image.reason) for image in part.bad)
    (folder / QUARANTINE_FILE).write_bytes(text.getvalue().encode())
