"""The nightly run: two folders of images in, ranked lists and attributes out."""

import json
import logging
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import ScoreConfig
from reidray.data.images.decoding import BadImage, check_bad_images
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.inference.embedder import prediction_shape
from reidray.inference.image_batches import ImageSet
from reidray.inference.predictions import Predictions
from reidray.models import load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages, warn_when_slow
from reidray.retrieval.partitioned_search import top_k_from_parts
from reidray.scoring.distractor_filter import filter_distractors
from reidray.scoring.incremental_update import IncrementalUpdate, folder_of
from reidray.scoring.nightly_embedding import embed_missing
from reidray.scoring.nightly_files import (
    NightlySet,
    RankedNight,
    predicts_pedestrians,
    write_files,
)
from reidray.scoring.ranking_file import check_names
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    OUTPUT_FILES,
    SUMMARY_FILE,
    check_score_outputs,
)
from reidray.scoring.stage_timer import StageTimer
from reidray.scoring.store.embedding_store import EmbeddingStore, open_parts, open_temporary_parts
from reidray.scoring.store.part_storage import PartStorage
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.storage.retries import retry_count

log = logging.getLogger("reidray")

NO_ATTRIBUTES = "the model does not predict the twelve pedestrian attributes"


def run_nightly(
    config: ScoreConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> dict[str, Any]:
    """Rank the gallery for every query, predict its attributes and publish the files together.

    The output folder gets `reid_test.txt`, `classification_test.csv` where the model predicts the
    pedestrian attributes, `distractors.csv` where it is asked for, `quarantine.csv` and
    `scoring.json`; all but the last are the same bytes for the same model and images, however many
    workers there are and whatever a store knew.

    Args:
        config: what to score.
        session: connection to Ray, which the run opens after all checks and only when there is
            much to embed; by default Ray is connected already.
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Returns:
        What `scoring.json` holds, with the output folder and the images per second.

    Raises:
        UserError: model, images or output are not what they should be, the cluster cannot place
            the workers, too many images do not decode, or all of the gallery is taken for
            distractors. The output folder is then untouched.
    """
    check_score_outputs(config)
    watch, retries = StageTimer(), retry_count()
    session = session or nullcontext()
    with atomic_output(config.output, OUTPUT_FILES, SUMMARY_FILE) as staging, Stages() as stages:
        stages.begin("reading the model", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("reading the model %s", config.model):
            model = load_person_model(config.model)
        stages.begin(f"listing {config.queries} and {config.gallery}", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("listing %s and %s", config.queries, config.gallery):
            sets = tuple(
                list_image_set(uri, config.follow_links) for uri in (config.queries, config.gallery)
            )
        watch.lap("check")
        known = "the images" if config.store is None else f"the images in the store {config.store}"
        stages.begin(f"looking up {known}")
        with _open_store(config, staging) as parts:
            folders = [folder_of(images) for images in sets]
            store = EmbeddingStore(
                parts,
                model.model_id,
                prediction_shape(model),
                folders,
                replace_existing=config.full,
            )
            with warn_when_slow("looking up what the store knows of the images"):
                increment = IncrementalUpdate(sets, store)
            watch.lap("look up")
            stages.end()
            embedding = embed_missing(model, sets, increment, config, session, starts_ray, watch)
            stages.begin("ranking")
            images = _complete(increment, sets, config.max_bad)
            ranked = rank_gallery(images, store, config, config.metric or model.card.metric)
            store.remove_replaced()
            watch.lap("rank")
        stages.begin("writing")
        write_files(staging, model, ranked, config)
        watch.lap("write")
        summary = {
            "model": model.model_id,
            **_counts(ranked, config),
            "metric": config.metric or model.card.metric,
            "attributes": ATTRIBUTE_FILE if predicts_pedestrians(model) else NO_ATTRIBUTES,
            "embedded": increment.embedded,
            "workers": embedding.workers,
            "retries": increment.retries + retry_count() - retries,
            "stages": watch.seconds,
            "versions": {name: version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return {"output": Location(config.output).uri, **summary, **embedding.pace}


def _complete(
    increment: IncrementalUpdate, sets: Sequence[ImageSet], max_bad: float
) -> tuple[NightlySet, NightlySet]:
    """Queries and gallery, now that it is known where each image is kept.

    Raises:
        UserError: more than the share `max_bad` of a set does not decode.
    """
    queries, gallery = map(NightlySet, sets, increment.finish())
    for each in (queries, gallery):
        check_bad(each.images, each.stored.bad, max_bad)
    return queries, gallery


def _counts(ranked: RankedNight, config: ScoreConfig) -> dict[str, Any]:
    """How many there are of what, and what was asked for."""
    sets = ranked.queries, ranked.gallery
    return {
        "queries": len(ranked.queries.images.paths),
        "gallery": len(ranked.gallery.images.paths),
        "quarantined": sum(len(each.stored.bad) for each in sets),
        "passed_over": {
            name: dict(each.images.skipped_files)
            for name, each in zip(("queries", "gallery"), sets, strict=True)
        },
        "top_k": config.top_k,
        "max_distance": config.max_distance,
        "max_distractor_score": config.max_distractor_score,
        "distractors_left_out": 0 if ranked.sifted is None else int((~ranked.sifted.keep).sum()),
        "queries_without_names": sum(not names for names in ranked.ranking.values()),
    }


def _open_store(config: ScoreConfig, staging: Path) -> AbstractContextManager[PartStorage]:
    """The parts of the store that was named, or parts for this night alone."""
    if config.store is not None:
        return open_parts(config.store)
    return open_temporary_parts(staging)


def list_image_set(uri: str, follow_links: bool = False) -> ImageSet:
    """Find all images of a folder, sorted by name; files that are none are counted in the log.

    Raises:
        UserError: the folder is missing or empty, or the output files cannot carry a name.
    """
    location = Location(uri, follow_links)
    found = find_images(location)
    check_names(found.paths)
    if found.skipped:
        log.info("%s: %s", location.uri, describe_skipped(found.skipped))
    return ImageSet(location, found.paths, found.skipped)


def check_bad(images: ImageSet, bad: Sequence[BadImage], max_bad: float) -> None:
    """Go on if few enough images of a set failed to decode; the error names them in full.

    Raises:
        UserError: more than the share `max_bad` failed.
    """
    located = [
        BadImage(posixpath.join(images.location.uri, image.path), image.reason) for image in bad
    ]
    check_bad_images(located, len(images.paths), max_bad)


def rank_gallery(
    images: tuple[NightlySet, NightlySet], store: EmbeddingStore, config: ScoreConfig, metric: str
) -> RankedNight:
    """Each query's nearest gallery images, and the gallery's attributes.

    The gallery's embeddings are read a part at a time, but for distractor scores, which need all
    of them. A query that did not decode has no names.

    Raises:
        UserError: all of the gallery is taken for distractors.
    """
    queries, gallery = images
    query = _read_all(queries, store)
    kept, sifted = store.gather(gallery.stored.kept), None
    if config.distractor_scores or config.max_distractor_score is not None:
        found = _read_all(gallery, store)
        kept = iter([(np.arange(len(found)), found)])
        sifted = filter_distractors(query, found, metric, config.max_distractor_score)
    codes = np.empty((len(gallery.stored.kept), store.shape.attributes), dtype=np.int64)

    def parts() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for places, predictions in kept:
            codes[places] = predictions.attribute_labels
            chosen = slice(None) if sifted is None else sifted.keep[places]
            yield places[chosen], predictions.embeddings[chosen]

    _, indices = top_k_from_parts(
        query.embeddings, parts(), config.top_k, metric=metric, max_distance=config.max_distance
    )
    names, named = gallery.images.paths, gallery.stored.rows
    ranking: dict[str, list[str]] = {path: [] for path in queries.images.paths}
    for row, nearest in zip(queries.stored.rows, indices, strict=True):
        within = named[nearest[nearest >= 0]]
        ranking[queries.images.paths[row]] = [names[index] for index in within]
    return RankedNight(queries, gallery, ranking, codes, sifted)


def _read_all(images: NightlySet, store: EmbeddingStore) -> Predictions:
    """What the model says of the images that decode."""
    found = store.shape.empty(len(images.stored.kept))
    for places, predictions in store.gather(images.stored.kept):
        found.put(places, predictions)
    return found
