"""The nightly run: two folders of images in, ranked lists and attributes out."""

import json
import posixpath
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data import object_store
from reidray.data.decoding import BadImage, check_bad_images
from reidray.data.publishing import only_writer_of, published_folder
from reidray.data.storage import Location, list_images
from reidray.models import LoadedModel, load_person_model
from reidray.retrieval.search import top_k_of_parts
from reidray.scoring.config import ScoreConfig
from reidray.scoring.embedder import ImageSet, embed_images, plan_pool, shape_of
from reidray.scoring.increment import Increment, StoredSet
from reidray.scoring.night_files import (
    ATTRIBUTE_FILE,
    OUTPUT_FILES,
    SUMMARY_FILE,
    NightlyImages,
    predicts_pedestrians,
    write_files,
)
from reidray.scoring.ranking_file import check_names
from reidray.scoring.store import EmbeddingStore, images_table

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
    pedestrian attributes, `quarantine.csv` and `scoring.json`; all but the last are the same bytes
    for the same model and images, however many workers there are and whatever a store knew.

    Args:
        config: what to score.
        session: a connection to Ray, opened once everything has been checked, where there is
            something to embed; None where Ray is connected already.

    Returns:
        What `scoring.json` holds, with the output folder and the images per second.

    Raises:
        UserError: model, images or output are not what they should be, the cluster cannot place
            the workers, or too many images do not decode. The output folder is then untouched.
    """
    watch = Stopwatch()
    with published_folder(config.output, OUTPUT_FILES) as staging:
        model = load_person_model(config.model)
        sets = list_set(config.queries), list_set(config.gallery)
        watch.lap("check")
        with _store_location(config, staging) as location:
            store = EmbeddingStore(location, model.model_id, shape_of(model), anew=config.full)
            increment = Increment(sets, store, images_table(location), anew=config.full)
            watch.lap("look up")
            embedding = _embed(model, sets, increment, config, session or nullcontext(), watch)
            found = increment.finish()
            for images, stored in zip(sets, found, strict=True):
                check_bad(images, stored.bad, config.max_bad)
            metric = config.metric or model.card.metric
            ranking, codes = rank(sets, found, store, config, metric)
            store.forget_earlier()
            watch.lap("rank")
        write_files(staging, model, NightlyImages(sets, found, codes), ranking)
        watch.lap("write")
        summary = {
            "model": model.model_id,
            "queries": len(sets[0].paths),
            "gallery": len(sets[1].paths),
            "embedded": increment.embedded,
            "quarantined": sum(len(stored.bad) for stored in found),
            "top_k": config.top_k,
            "metric": metric,
            "max_distance": config.max_distance,
            "queries_without_names": sum(not names for names in ranking.values()),
            "attributes": ATTRIBUTE_FILE if predicts_pedestrians(model) else NO_ATTRIBUTES,
            "workers": embedding.workers,
            "retries": increment.retries + object_store.retries_so_far(),
            "stages": watch.seconds,
            "versions": {name: version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return {"output": Location(config.output).uri, **summary, **embedding.pace}


@contextmanager
def _store_location(config: ScoreConfig, staging: Path) -> Iterator[Location]:
    """The store that was named, or one for this night alone."""
    if config.store is not None:
        location = Location(config.store)
        with only_writer_of(location):
            yield location
        return
    with TemporaryDirectory(dir=staging) as folder:
        yield Location(folder)


@dataclass(frozen=True)
class _Pass:
    """An embedding pass.

    Attributes:
        workers: processes that embedded; 0 where there was nothing to embed.
        pace: images per second, and those after the first were done.
    """

    workers: int
    pace: dict[str, float]


def _embed(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    increment: Increment,
    config: ScoreConfig,
    session: AbstractContextManager[None],
    watch: Stopwatch,
) -> _Pass:
    """Embed what the store does not know, if there is any."""
    wanted = sum(len(rows) for rows in increment.missing)
    if not wanted:
        return _Pass(0, {})
    with session:
        pool = plan_pool(config.num_workers, config.use_gpu)
        watch.lap("ray start")
        ends = []
        for batch in embed_images(model, sets, increment.missing, pool, increment.known()):
            increment.take(batch)
            ends.append((len(batch.rows), time.perf_counter()))
        watch.lap("embed")
    watch.lap("ray stop")
    (first, begun), (_, ended) = ends[0], ends[-1]
    pace = {"images_per_second": round(wanted / watch.seconds["embed"], 1)}
    if len(ends) > 1:
        pace["images_per_second_steady"] = round((wanted - first) / (ended - begun), 1)
    return _Pass(pool.workers, pace)


def list_set(uri: str) -> ImageSet:
    """All images of a folder, sorted by name.

    Raises:
        UserError: the folder is missing or empty, or the output files cannot carry a name.
    """
    location = Location(uri)
    paths = tuple(list_images(location))
    check_names(paths)
    return ImageSet(location, paths)


def check_bad(images: ImageSet, bad: Sequence[BadImage], max_bad: float) -> None:
    """Go on if few enough images of a set failed to decode; the error names them in full.

    Raises:
        UserError: more than the share `max_bad` failed.
    """
    located = [
        BadImage(posixpath.join(images.location.uri, image.path), image.reason) for image in bad
    ]
    check_bad_images(located, len(images.paths), max_bad)


def rank(
    sets: Sequence[ImageSet],
    found: Sequence[StoredSet],
    store: EmbeddingStore,
    config: ScoreConfig,
    metric: str,
) -> tuple[dict[str, list[str]], NDArray[np.int64]]:
    """Query name to its nearest gallery names, and the gallery's attributes.

    The gallery's embeddings are read a part at a time. A query that did not decode has no names.

    Returns:
        The ranking, and (M, A) int64, the attribute codes of the gallery images that decode.
    """
    (queries, gallery), (asked, candidates) = sets, found
    query = store.shape.empty(len(asked.kept))
    for places, predictions in store.gather(asked.kept):
        query.put(places, predictions)
    codes = np.empty((len(candidates.kept), store.shape.attributes), dtype=np.int64)

    def parts() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for places, predictions in store.gather(candidates.kept):
            codes[places] = predictions.codes
            yield places, predictions.embeddings

    _, indices = top_k_of_parts(
        query.embeddings, parts(), config.top_k, metric=metric, max_distance=config.max_distance
    )
    ranking: dict[str, list[str]] = {path: [] for path in queries.paths}
    for row, nearest in zip(asked.rows, indices, strict=True):
        within = candidates.rows[nearest[nearest >= 0]]
        ranking[queries.paths[row]] = [gallery.paths[index] for index in within]
    return ranking, codes
