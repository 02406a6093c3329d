"""Run a nightly scoring: two folders of images in, ranked lists and attributes out."""

import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reidray.config.scoring import ScoreConfig
from reidray.data.images.decoding import NUM_EXAMPLES, BadImage, check_bad_share
from reidray.data.listing.image_listing import ImageListing
from reidray.data.reading.image_folders import describe_skipped
from reidray.errors import UserError
from reidray.inference.distributed.scoring_engine import ScoringEngine, choose_scoring_engine
from reidray.inference.distributed.task_runner import Shared
from reidray.inference.inference_settings import choose_settings
from reidray.inference.prediction_loop import prediction_shape
from reidray.inference.runs.embedding_engine import (
    EmbeddingEngine,
    RayConnection,
    choose_engine,
    embeds_on_gpu,
)
from reidray.inference.runs.run_timing import StageTimer
from reidray.models import LoadedModel, load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages, warn_when_slow
from reidray.scoring.gallery_ranking import GalleryRanking, rank_gallery
from reidray.scoring.nightly_files import predicts_pedestrian_attributes, write_nightly_files
from reidray.scoring.nightly_metrics import export_success, exporting_failure
from reidray.scoring.scoring_paths import (
    ATTRIBUTE_FILE,
    OUTPUT_FILES,
    SUMMARY_FILE,
    check_score_outputs,
)
from reidray.scoring.stages.embed_missing import EmbeddingOutcome, embed_here, embed_in_workers
from reidray.scoring.stages.located_images import LocatedShard, locate_images
from reidray.scoring.stages.missing_images import (
    LookedUpShard,
    collect_keys,
    count_missing,
    look_up_images,
)
from reidray.scoring.stages.nightly_images import NightlyImages, list_roles
from reidray.scoring.stages.replaced_embeddings import remove_replaced
from reidray.scoring.store.embedding_store import EmbeddingStore, open_parts, open_temporary_parts
from reidray.scoring.store.part_storage import PartFolder, PartStorage
from reidray.storage.location import Location
from reidray.storage.outputs.working_folder import working_folder
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
    number of workers, both engines and any contents of the store.

    Args:
        config: the nightly run.
        session: connection to Ray, which the run opens after all checks. It joins a running cluster
            at once, which exports the metrics of the run, and starts Ray on this machine only
            where there is much to embed (see `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Returns:
        The contents of `scoring.json`, with the output folder.

    Raises:
        UserError: the model, the images or the output are not usable, the cluster cannot place the
            workers, too many images do not decode, or the whole gallery is left out as
            distractors. The output folder is then untouched.
    """
    check_score_outputs(config)
    timer = StageTimer()
    connection = RayConnection(session, timer, starts_ray=starts_ray)
    with connection, exporting_failure(connection, config.output):
        summary = _publish_scores(config, connection, timer)
        export_success(connection, config.output, summary)
    return {"output": Location(config.output).uri, **summary}


def _publish_scores(
    config: ScoreConfig, connection: RayConnection, timer: StageTimer
) -> dict[str, Any]:
    """Write and publish the files of a run, and return the contents of `scoring.json`.

    A failure closes the connection before the files are removed, which workers may still write.
    """
    retries_before = retry_count()
    output = atomic_output(config.output, OUTPUT_FILES, SUMMARY_FILE)
    with (
        output as staging,
        Stages() as stages,
        connection.closed_on_failure(),
        exporting_failure(connection, config.output),
    ):
        stages.begin("reading the model", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("reading the model %s", config.model):
            model = load_person_model(config.model)
        metric = config.metric or model.card.metric
        _check_attribute_votes(config, model)
        connection.join()  # a cluster exports the metrics of the run
        engine = choose_scoring_engine(config.engine, connection, _written_folders(config, staging))
        with working_folder(
            Location(config.output), staging, in_bucket=engine.uses_ray_data
        ) as work:
            stages.begin(f"listing {config.queries} and {config.gallery}", delay=SHOW_AFTER_SECONDS)
            listings = _list_images(config, work, engine)
            timer.end_stage("check")

            on_gpu = embeds_on_gpu(config, connection)
            settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
            embedding_id = settings.embedding_id(model.model_id)
            in_store = f" in the store {config.store}" if config.store else ""
            stages.begin(f"looking up the images{in_store}")
            with _open_parts(config, staging, work, engine) as parts:
                store = EmbeddingStore(
                    parts, embedding_id, prediction_shape(model), replace_existing=config.full
                )
                images = NightlyImages(listings, store.contents, work)
                keys = collect_keys(engine.runner, images)
                with warn_when_slow("looking up what the store knows of the images"):
                    shards = look_up_images(engine.runner, images, keys)
                timer.end_stage("look up")
                stages.end()

                num_workers, outcome = 0, EmbeddingOutcome()
                num_images = count_missing(shards)
                if num_images:
                    if not config.full:
                        _warn_of_other_settings(store, model.model_id, embedding_id)
                    embedding = choose_engine(
                        num_images,
                        config,
                        settings,
                        connection,
                        on_gpu=on_gpu,
                        by_ray_data=engine.uses_ray_data,
                    )
                    num_workers = embedding.num_workers
                    outcome = _embed(embedding, model, images, shards, store, keys)
                    timer.end_stage("embed")
                if not engine.uses_ray_data and not connection.joins_cluster:
                    connection.close()

                stages.begin("ranking")
                images = NightlyImages(listings, store.contents, work)
                located = locate_images(engine.runner, images, shards, outcome.unreadable)
                for role, of_role in located.items():
                    _check_bad_images(listings[role], of_role, config.max_bad)
                device = engine.ranking_device(config.use_gpu)
                rankings = None if config.store is None else store.rankings
                ranked = rank_gallery(
                    engine.runner, images, located, config, metric, rankings, device=device
                )
                remove_replaced(engine.runner, store)
                if ranked.kept is not None:
                    store.keep_ranking(ranked.kept)
                timer.end_stage("rank")

                stages.begin("writing")
                write_nightly_files(staging, model, engine.runner, images, ranked, config)
                timer.end_stage("write")
        summary = {
            "model": embedding_id,
            "precision": settings.precision,
            "flip": settings.flip,
            **_counts(listings, ranked, config),
            "metric": metric,
            "attributes": (
                ATTRIBUTE_FILE if predicts_pedestrian_attributes(model) else NO_ATTRIBUTES
            ),
            "embedded": outcome.num_embedded,
            "engine": engine.name,
            "workers": num_workers,
            "retries": (
                outcome.num_retries + engine.runner.num_retries + retry_count() - retries_before
            ),
            **(outcome.throughput.summary() if outcome.num_embedded else {}),
            "stages": timer.seconds,
            "versions": {name: _version(name) for name in ("reidray", "ray", "torch", "timm")},
        }
        (staging / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


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


def _written_folders(config: ScoreConfig, staging: Path) -> list[Path]:
    """Return the folders on disks that workers on other machines need to reach."""
    output, store = Location(config.output), config.store and Location(config.store)
    folders = [] if output.is_remote else [staging]
    return folders if not store or store.is_remote else [*folders, Path(store.uri)]


def _list_images(
    config: ScoreConfig, work: Location, engine: ScoringEngine
) -> Mapping[str, ImageListing]:
    """Return the listings of the queries and the gallery, and log the number of other files.

    Raises:
        UserError: a folder is missing or holds no images, or the output files cannot hold a file
            name.
    """
    with warn_when_slow("listing %s and %s", config.queries, config.gallery):
        listings = list_roles(config, work, engine.run_listing)
    for listing in listings.values():
        if listing.skipped:
            log.info("%s: %s", listing.images.uri, describe_skipped(listing.skipped))
    return listings


def _open_parts(
    config: ScoreConfig, staging: Path, work: Location, engine: ScoringEngine
) -> AbstractContextManager[PartStorage]:
    """Open the parts of the configured store, or temporary parts where there is no store."""
    if config.store is not None:
        return open_parts(config.store)
    if engine.uses_ray_data:
        return nullcontext(PartFolder(work.join("store")))
    return open_temporary_parts(staging)


def _embed(
    engine: EmbeddingEngine,
    model: LoadedModel,
    images: NightlyImages,
    shards: Sequence[LookedUpShard],
    store: EmbeddingStore,
    keys: Shared,
) -> EmbeddingOutcome:
    """Embed the missing images, and write them into the store."""
    if engine.embed_work is not None:
        embed = partial(engine.embed_work, model, known=keys)
        return embed_in_workers(embed, images, shards, store, engine.num_workers)
    return embed_here(engine.embed, model, images, shards, store, keys)


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


def _check_bad_images(
    listing: ImageListing, shards: Sequence[LocatedShard], max_bad: float
) -> None:
    """Check that few enough images of a listing failed to decode.

    Raises:
        UserError: a larger share failed; the message names the first images in full.
    """
    examples = [
        BadImage(posixpath.join(listing.images.uri, image.path), image.reason)
        for shard in shards
        for image in shard.bad
    ]
    num_bad = sum(shard.num_bad for shard in shards)
    check_bad_share(num_bad, examples[:NUM_EXAMPLES], listing.num_images, max_bad)


def _counts(
    listings: Mapping[str, ImageListing], ranked: GalleryRanking, config: ScoreConfig
) -> dict[str, Any]:
    """Return the counts and the settings of the ranking for the summary."""
    return {
        "queries": listings["query"].num_images,
        "gallery": listings["gallery"].num_images,
        "quarantined": ranked.num_bad,
        "passed_over": {
            "queries": dict(listings["query"].skipped),
            "gallery": dict(listings["gallery"].skipped),
        },
        "top_k": config.top_k,
        "max_distance": config.max_distance,
        "max_distractor_score": config.max_distractor_score,
        "attribute_neighbours": config.attribute_neighbours,
        "distractors_left_out": ranked.num_distractors,
        "queries_without_names": ranked.num_empty,
        **_changes(ranked),
        **({} if ranked.num_searched is None else {"queries_searched": ranked.num_searched}),
    }


def _changes(ranked: GalleryRanking) -> dict[str, Any]:
    """Return what differs from the images of the run before, where the store keeps its ranking."""
    if ranked.changes is None:
        return {}
    names = {"query": "queries", "gallery": "gallery"}
    return {"since_last_run": {names[role]: asdict(c) for role, c in ranked.changes.items()}}


def _version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed: a small run needs no Ray."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
