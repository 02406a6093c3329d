"""Run a nightly scoring: two folders of images in, ranked lists and attributes out."""

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from reidray.config.scoring import ScoreConfig
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.inference.image_batches import ImageBatch, ImageSet, plan_batches
from reidray.inference.inference_settings import choose_settings
from reidray.inference.prediction_loop import lacks_memory, prediction_shape
from reidray.inference.runs.embedding_engine import RayConnection, choose_engine, embeds_on_gpu
from reidray.inference.runs.run_timing import StageTimer, Throughput
from reidray.models import LoadedModel, load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages, warn_when_slow
from reidray.scoring.gallery_ranking import GalleryRanking, rank_gallery
from reidray.scoring.incremental_update import (
    IncrementalUpdate,
    KnownImages,
    StoredImages,
    folder_of,
)
from reidray.scoring.nightly_files import predicts_pedestrian_attributes, write_nightly_files
from reidray.scoring.ranking_file import check_names
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
    connection = RayConnection(session, timer, starts_ray=starts_ray)
    output = atomic_output(config.output, OUTPUT_FILES, SUMMARY_FILE)
    with output as staging, Stages() as stages, connection:
        stages.begin("reading the model", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("reading the model %s", config.model):
            model = load_person_model(config.model)
        metric = config.metric or model.card.metric
        _check_attribute_votes(config, model)

        stages.begin(f"listing {config.queries} and {config.gallery}", delay=SHOW_AFTER_SECONDS)
        image_sets = _list_image_sets(config)
        timer.end_stage("check")

        on_gpu = embeds_on_gpu(config, connection)
        settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
        embedding_id = settings.embedding_id(model.model_id)
        in_store = f" in the store {config.store}" if config.store else ""
        stages.begin(f"looking up the images{in_store}")
        with _open_parts(config, staging) as parts:
            store = EmbeddingStore(
                parts,
                embedding_id,
                prediction_shape(model),
                folders=[folder_of(images) for images in image_sets],
                replace_existing=config.full,
            )
            known_images = _look_up(image_sets, store)
            batches = _plan_missing(known_images, store)
            timer.end_stage("look up")
            stages.end()

            workers, throughput = 0, Throughput()
            with IncrementalUpdate(store, known_images) as update:
                if batches:
                    if not config.full:
                        _warn_of_other_settings(store, model.model_id, embedding_id)
                    engine = choose_engine(batches, config, settings, connection, on_gpu=on_gpu)
                    workers, throughput = engine.num_workers, Throughput()
                    for results in engine.embed(model, batches, store.sorted_digests()):
                        update.add(results)
                        throughput.add(results)
                    timer.end_stage("embed")
                connection.close()
                stages.begin("ranking")
                update.finish()

            queries, gallery = (known.locate(store) for known in known_images)
            for each in (queries, gallery):
                each.images.check_bad_images(each.bad, config.max_bad)
            ranked = _rank(queries, gallery, store, config, metric)
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
            **(throughput.summary() if update.num_embedded else {}),
            "stages": timer.seconds,
            "versions": {name: _version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return {"output": Location(config.output).uri, **summary}


def _check_attribute_votes(config: ScoreConfig, model: LoadedModel) -> None:
    """Check that there are attributes to vote on where the configuration requests votes.

    Raises:
        UserError: the model does not predict the pedestrian attributes.
    """
    if config.attribute_neighbours > 1 and not predicts_pedestrian_attributes(model):
        raise UserError(
            f"`attribute_neighbours={config.attribute_neighbours}` has nothing to vote on: "
            f"{config.model} does not predict the twelve pedestrian attributes; leave it out"
        )


def _list_image_sets(config: ScoreConfig) -> list[ImageSet]:
    """Return the queries and the gallery.

    Raises:
        UserError: a folder is missing or holds no images, or the output files cannot hold a file
            name.
    """
    with warn_when_slow("listing %s and %s", config.queries, config.gallery):
        return [
            _list_image_set("query", Location(config.queries, config.follow_links)),
            _list_image_set("gallery", Location(config.gallery, config.follow_links)),
        ]


def _list_image_set(name: str, folder: Location) -> ImageSet:
    """Return the images of a folder, sorted by path, and log the number of other files.

    Raises:
        UserError: the folder is missing or holds no images, or the output files cannot hold a
            file name.
    """
    found = find_images(folder)
    check_names(found.paths)
    if found.skipped:
        log.info("%s: %s", folder.uri, describe_skipped(found.skipped))
    return ImageSet(name, folder, found.paths, found.skipped)


def _open_parts(config: ScoreConfig, staging: Path) -> AbstractContextManager[PartStorage]:
    """Open the parts of the configured store, or temporary parts where there is no store."""
    if config.store is not None:
        return open_parts(config.store)
    return open_temporary_parts(staging)


def _look_up(image_sets: Sequence[ImageSet], store: EmbeddingStore) -> list[KnownImages]:
    """Return what a store knows of each image set."""
    with warn_when_slow("looking up what the store knows of the images"):
        known_images = [KnownImages(images, store) for images in image_sets]
    store.release_images()
    return known_images


def _plan_missing(known_images: Sequence[KnownImages], store: EmbeddingStore) -> list[ImageBatch]:
    """Return batches of the images that have no embedding in a store."""
    return [
        batch
        for known in known_images
        for batch in plan_batches(known.images, known.missing(store))
    ]


def _warn_of_other_settings(store: EmbeddingStore, model_id: str, embedding_id: str) -> None:
    """Warn where a store has the embeddings of a model with other settings only."""
    others = {other for other in store.other_ids if other.partition("-")[0] == model_id}
    if others and not len(store):
        log.warning(
            "the store has this model only with another precision or flip (%s): all images are "
            "embedded again as %s",
            ", ".join(sorted(others)),
            embedding_id,
        )


def _rank(
    queries: StoredImages,
    gallery: StoredImages,
    store: EmbeddingStore,
    config: ScoreConfig,
    metric: str,
) -> GalleryRanking:
    """Return `rank_gallery`, which the CPU computes where a GPU has no room for it."""
    device = _ranking_device(config)
    try:
        return rank_gallery(queries, gallery, store, config, metric, device=device)
    except RuntimeError as error:
        if device == "cpu" or not lacks_memory(error):
            raise
    log.warning("ranking: the GPU has too little free memory; the CPU ranks instead")
    return rank_gallery(queries, gallery, store, config, metric)


def _ranking_device(config: ScoreConfig) -> str:
    """Return the device of this process that ranks: a GPU, if there is one and it may be used."""
    return "cuda" if config.use_gpu != "no" and torch.cuda.is_available() else "cpu"


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
        "attribute_neighbours": config.attribute_neighbours,
        "distractors_left_out": ranked.num_distractors,
        "queries_without_names": ranked.num_empty,
    }


def _version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed: a small run needs no Ray."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
