"""Embed the images of a folder or a manifest into one Parquet file."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

import numpy as np

from reidray.config.jobs.embedding import EmbedConfig
from reidray.data.images.decoding import BadImage
from reidray.inference.image_batches import plan_batches
from reidray.inference.inference_settings import InferenceSettings, choose_settings
from reidray.inference.prediction_loop import prediction_shape
from reidray.inference.runs.embed_checks import quarantine_of
from reidray.inference.runs.embedding_engine import RayConnection, choose_engine, embeds_on_gpu
from reidray.inference.runs.embedding_table import EmbeddingTable, in_order
from reidray.inference.runs.labelled_images import SPLIT, LabelledImages, list_labelled_images
from reidray.inference.runs.quarantine import write_quarantine
from reidray.inference.runs.run_timing import StageTimer, Throughput
from reidray.models import LoadedModel, load_person_model
from reidray.progress import SHOW_AFTER_SECONDS, Stages, warn_when_slow
from reidray.storage.location import Location
from reidray.storage.outputs.new_files import new_file
from reidray.storage.retries import retry_count

log = logging.getLogger("reidray")


def run_embedding(
    config: EmbedConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> dict[str, Any]:
    """Embed images into a Parquet file (see `EmbeddingTable`), which appears whole.

    The file has the same rows for the same model and images, for any number of workers. Images that
    do not decode have no row; a file beside the output names them.

    Args:
        config: the embedding.
        session: connection to Ray, opened where it is needed (see `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Returns:
        The output, the settings, the counts, the speed and the seconds of the stages.

    Raises:
        UserError: the model, the data or the output are not usable, the cluster cannot place the
            workers, or too many images do not decode. Nothing is written then.
    """
    timer, retries_before = StageTimer(), retry_count()
    connection = RayConnection(session, timer, starts_ray=starts_ray)
    with new_file("output", config.output) as staged, Stages() as stages, connection:
        stages.begin("reading the model", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("reading the model %s", config.model):
            model = load_person_model(config.model)
        stages.begin(f"listing {config.data}", delay=SHOW_AFTER_SECONDS)
        with warn_when_slow("listing %s", config.data):
            listed = list_labelled_images(config)
        images = listed.images
        timer.end_stage("check")
        stages.end()

        on_gpu = embeds_on_gpu(config, connection)
        settings = choose_settings(config.precision, config.flip, on_gpu=on_gpu)
        batches = plan_batches(images, np.arange(len(images.paths)))
        num_images = len(images.paths)
        engine = choose_engine(num_images, config, settings, connection, on_gpu=on_gpu)
        throughput, retries = Throughput(), 0
        metadata = _describe(model, settings, images.location)
        schema = model.architecture.schema
        table = EmbeddingTable(staged, listed, prediction_shape(model), schema, metadata)
        with table:
            for result in in_order(engine.embed(model, batches, None)):
                table.add(result)
                throughput.add_results([result])
                retries += result.num_retries
        timer.end_stage("embed")
        connection.close()
        images.check_bad_images(table.bad, config.max_bad)
        if table.bad:
            _publish_quarantine(config, listed, table.bad)
    return {
        "output": Location(config.output).uri,
        **{key: metadata[key] for key in ("model", "precision", "metric")},
        "flip": settings.flip,
        "images": len(images.paths),
        "embedded": table.num_rows,
        "quarantined": len(table.bad),
        "quarantine": quarantine_of(config.output) if table.bad else None,
        "passed_over": dict(images.skipped_files),
        "columns": table.column_names,
        "workers": engine.num_workers,
        "retries": retries + retry_count() - retries_before,
        **throughput.summary(),
        "stages": timer.seconds,
    }


def _describe(
    model: LoadedModel, settings: InferenceSettings, location: Location
) -> Mapping[str, str]:
    """Return the metadata of a file of embeddings."""
    return {
        "model": settings.embedding_id(model.model_id),
        "precision": settings.precision,
        "flip": str(settings.flip).lower(),
        "metric": model.card.metric,
        "root": location.uri,
        "reidray": version("reidray"),
    }


def _publish_quarantine(
    config: EmbedConfig, listed: LabelledImages, bad: Sequence[BadImage]
) -> None:
    """Write the file that names the images that do not decode, and log the first of them."""
    splits = listed.columns.get(SPLIT)
    split_of = dict(zip(listed.images.paths, splits.to_pylist(), strict=True)) if splits else {}
    by_split: dict[str, list[BadImage]] = {}
    for image in bad:
        by_split.setdefault(split_of.get(image.path, ""), []).append(image)
    file = quarantine_of(config.output)
    log.warning(
        "%d of %d images do not decode and have no row; %s names them (the first is %s: %s)",
        len(bad),
        len(listed.images.paths),
        file,
        bad[0].path,
        bad[0].reason,
    )
    with new_file("output", file) as staged:
        staged.write_bytes(write_quarantine(by_split))
