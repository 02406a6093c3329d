"""Run a nightly scoring: two folders of images in, ranked lists and attributes out."""

import json
import logging
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from reidray.config.scoring import ScoreConfig
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.inference.image_batches import ImageSet, plan_batches
from reidray.inference.inference_settings import InferenceSettings, choose_settings
from reidray.inference.prediction_loop import prediction_shape
from reidray.models import load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages, warn_when_slow
from reidray.scoring.embedding_engine import RayConnection, choose_engine, embeds_on_gpu
from reidray.scoring.gallery_ranking import GalleryRanking, rank_gallery
from reidray.scoring.incremental_update import (
    IncrementalUpdate,
    KnownImages,
    StoredImages,
    folder_of,
)
from reidray.scoring.nightly_files import predicts_pedestrian_attributes, write_nightly_files
from reidray.scoring.ranking_file import check_names
from reidray.scoring.run_timing import StageTimer, Throughput
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    OUTPUT_FILES,
    SUMMARY_FILE,
    check_score_outputs,
)
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

    The run writes `reid_test.txt`, `classification_test.csv` where the model predicts the
    pedestrian attributes, `distractors.csv` where the configuration requests it, `quarantine.csv`
    and `scoring.json`. All but the last have the same bytes for the same model and images, for any
    number of workers and any contents of the store.

    Args:
        config: the nightly run.
        session: connection to Ray, which the run opens after all checks, and only where a running
            cluster decides whether a GPU embeds, or there is much to embed; by default Ray is
            connected already.
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Returns:
        The contents of `scoring.json`, with the output folder.

    Raises:
        UserError: the model, the images or the output are not usable, the cluster cannot place the
            workers, too many images do not decode, or the whole gallery is left out as
            distractors. The output folder is then untouched.
    """
    check_score_outputs(config)
    timer, retries_before = StageTimer(), retry_count()
    workers, throughput = 0, Throughput()
    connection = RayConnection(session, timer, starts_ray=starts_ray)
    output = atomic_output(config.output, OUTPUT_FILES, SUMMARY_FILE)
    with output as staging, Stages() as stages, connection:
        stages.begin("reading the model", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("reading the model %s", config.model):
            model = load_person_model(config.model)
        metric = config.metric or model.card.metric

        stages.begin(f"listing {config.queries} and {config.gallery}", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("listing %s and %s", config.queries, config.gallery):
            query_images = list_image_set(config.queries, "query", config.follow_links)
            gallery_images = list_image_set(config.gallery, "gallery", config.follow_links)
        timer.end_stage("check")
        on_gpu = embeds_on_gpu(config, connection)
        settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
        embedding_id = settings.embedding_id(model.model_id)

        stages.begin(
            f"looking up the images in the store {config.store}"
            if config.store
            else "looking up the images"
        )
        with open_store_parts(config, staging) as parts:
            store = EmbeddingStore(
                parts,
                embedding_id,
                prediction_shape(model),
                folders=[folder_of(query_images), folder_of(gallery_images)],
                replace_existing=config.full,
            )
            with warn_when_slow("looking up what the store knows of the images"):
                known_queries = KnownImages(query_images, store)
                known_gallery = KnownImages(gallery_images, store)
                store.release_images()
            batches = plan_batches(query_images, known_queries.missing(store))
            batches += plan_batches(gallery_images, known_gallery.missing(store))
            timer.end_stage("look up")
            stages.end()

            with IncrementalUpdate(store, [known_queries, known_gallery]) as update:
                if batches:
                    if not config.full:
                        warn_of_other_settings(store, model.model_id, settings)
                    num_images = sum(len(batch.paths) for batch in batches)
                    engine = choose_engine(num_images, config, settings, connection, on_gpu=on_gpu)
                    workers, throughput = engine.num_workers, Throughput()
                    for results in engine.embed(model, batches, store.sorted_digests()):
                        update.add(results)
                        throughput.add(results)
                    timer.end_stage("embed")
                connection.close()
                stages.begin("ranking")
                update.finish()

            queries, gallery = known_queries.locate(store), known_gallery.locate(store)
            for each in (queries, gallery):
                each.images.check_bad_images(each.bad, config.max_bad)
            ranked = rank_gallery(
                queries, gallery, store, config, metric, device=ranking_device(config)
            )
            store.remove_replaced()
            timer.end_stage("rank")

        stages.begin("writing")
        write_nightly_files(staging, model, queries, gallery, ranked, config)
        timer.end_stage("write")
        summary = {
            "model": embedding_id,
            "precision": settings.precision,
            "flip": settings.flip,
            **_counts(queries, gallery, ranked, config),
            "metric": metric,
            "attributes": (
                ATTRIBUTE_FILE if predicts_pedestrian_attributes(model) else NO_ATTRIBUTES
            ),
            "embedded": update.num_embedded,
            "workers": workers,
            "retries": update.num_retries + retry_count() - retries_before,
            **throughput.summary(),
            "stages": timer.seconds,
            "versions": {name: _version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return {"output": Location(config.output).uri, **summary}


def list_image_set(uri: str, name: str, follow_links: bool = False) -> ImageSet:
    """Return the images of a folder, sorted by path, and log the number of other files.

    Args:
        uri: the folder.
        name: name of the image set.
        follow_links: whether to read images that links out of the folder lead to.

    Raises:
        UserError: the folder is missing or holds no images, or the output files cannot hold a
            file name.
    """
    location = Location(uri, follow_links)
    found = find_images(location)
    check_names(found.paths)
    if found.skipped:
        log.info("%s: %s", location.uri, describe_skipped(found.skipped))
    return ImageSet(name, location, found.paths, found.skipped)


def open_store_parts(config: ScoreConfig, staging: Path) -> AbstractContextManager[PartStorage]:
    """Open the parts of the configured store, or temporary parts where there is no store."""
    if config.store is not None:
        return open_parts(config.store)
    return open_temporary_parts(staging)


def ranking_device(config: ScoreConfig) -> str:
    """Return the device of this process that ranks: a GPU, if there is one and it may be used."""
    return "cuda" if config.use_gpu != "no" and torch.cuda.is_available() else "cpu"


def warn_of_other_settings(
    store: EmbeddingStore, model_id: str, settings: InferenceSettings
) -> None:
    """Say why all is embedded again where a store has the model with other settings only."""
    others = {other for other in store.other_ids if other.partition("-")[0] == model_id}
    if others and not len(store):
        log.warning(
            "the store has this model only with another precision or flip (%s): all images are "
            "embedded again as %s",
            ", ".join(sorted(others)),
            settings.embedding_id(model_id),
        )


def _counts(
    queries: StoredImages, gallery: StoredImages, ranked: GalleryRanking, config: ScoreConfig
) -> dict[str, Any]:
    """Return the counts and the settings of the ranking for the summary."""
    return {
        "queries": len(queries.images.paths),
        "gallery": len(gallery.images.paths),
        "quarantined": len(queries.bad) + len(gallery.bad),
        "passed_over": {
            "queries": dict(queries.images.skipped_files),
            "gallery": dict(gallery.images.skipped_files),
        },
        "top_k": config.top_k,
        "max_distance": config.max_distance,
        "max_distractor_score": config.max_distractor_score,
        "distractors_left_out": ranked.num_distractors,
        "queries_without_names": ranked.num_empty,
    }


def _version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed: a small run needs no Ray."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
