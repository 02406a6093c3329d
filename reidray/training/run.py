"""A training job, from images to a run directory with a model in it."""

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from ray.util.queue import Queue

from reidray.config import NetworkConfig, TrainReidConfig
from reidray.data.attributes import UNKNOWN, AttributeSchema
from reidray.data.decoding import check_bad_images
from reidray.data.ingest import ResidentCrops, decode_resident
from reidray.data.layouts import read_layout
from reidray.data.manifest import Manifest
from reidray.data.outputs import staged_directory, write_whole
from reidray.data.sampling import check_identity_batch
from reidray.data.split import split_people
from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.models.directory import MODEL_FILES, ModelCard, save_model
from reidray.models.registry import NETWORKS, NetworkSpec, build_network, describe_network
from reidray.reporting import DataSummary, model_card, write_run_report
from reidray.training.checkpoint import read_best
from reidray.training.progress import Journal
from reidray.training.trainer import place_workers, train_on_cluster
from reidray.training.validation import LabelledCrops
from reidray.training.worker import Assignment

log = logging.getLogger("reidray")

CONFIG_FILE = "config.yaml"
WRAP_UP_SECONDS = 15.0
"""Kept back from a time limit for the model directory, the report and Ray's own end."""


@dataclass(frozen=True)
class PreparedTraining:
    """A training that can start: everything that needs no cluster is checked.

    Attributes:
        run: the run directory.
        manifest: the training people, in the splits train and val.
        train: the images of the split train; a row is a row of the manifest's table.
        validation: those of the split val.
        spec: the network.
    """

    config: TrainReidConfig
    run: Path
    manifest: Manifest
    train: LabelledCrops
    validation: LabelledCrops
    spec: NetworkSpec


def prepare_training(config: TrainReidConfig, resume: Path | None = None) -> PreparedTraining:
    """Read and check what a training needs. No Ray, and nothing is written yet.

    Args:
        config: what to train.
        resume: a run directory to go on with, instead of a new one.

    Raises:
        UserError: the data, the network or the output do not allow it.
    """
    manifest = split_people(
        read_layout(config.data, config.layout, strict=config.strict),
        val_fraction=config.val_fraction,
        seed=config.split_seed,
    )
    kept = pa.compute.is_in(manifest.table["split"], pa.array(["train", "val"]))
    manifest = replace(manifest, table=manifest.table.filter(kept).combine_chunks())
    train, validation = _labels(manifest, "train"), _labels(manifest, "val")
    check_identity_batch(train.people, config.batch.people, config.batch.crops, config.num_workers)
    spec = _describe(config.network, len(np.unique(train.people)), manifest.schema)
    build_network(spec, weights=config.network.weights)
    for note in manifest.notes:
        log.info("%s", note)
    run = resume or Path(config.output or time.strftime("runs/%Y%m%d-%H%M%S"))
    config = replace(config, output=str(run))
    if resume is None:
        _check_output(run)
    return PreparedTraining(config, run, manifest, train, validation, spec)


def train_reid(prepared: PreparedTraining, *, started: float) -> dict[str, Any]:
    """Train a network that recognises people. Ray is connected.

    Args:
        prepared: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, or the cluster cannot place the workers.
    """
    config, run = prepared.config, prepared.run
    resources = place_workers(config.num_workers, config.use_gpu)
    crops = _decode(prepared)
    _open_run(config, run)
    train, validation = (
        _decoded(labels, crops) for labels in (prepared.train, prepared.validation)
    )
    check_identity_batch(train.people, config.batch.people, config.batch.crops, config.num_workers)
    log.info(
        "training on %s images of %s people, validating on %s of %s; %d workers x %s",
        *(f"{count:,}" for count in (len(train.rows), len(np.unique(train.people)))),
        *(f"{count:,}" for count in (len(validation.rows), len(np.unique(validation.people)))),
        config.num_workers,
        "1 GPU" if resources.use_gpu else f"{resources.cpus} CPU",
    )
    limit = config.max_minutes
    assignment = Assignment(
        config=config,
        spec=prepared.spec,
        training_data=prepared.manifest.fingerprint,
        crops=crops,
        train=train,
        validation=validation,
        deadline=started + limit * 60 - WRAP_UP_SECONDS if limit else None,
        bf16=config.precision == "bf16" or (config.precision == "auto" and resources.use_gpu),
        threads=resources.cpus,
        events=Queue(actor_options={"num_cpus": 0}),
    )
    journal = Journal(run)
    checkpoint = train_on_cluster(assignment, resources, run, journal)
    summary = _summarise(prepared, train, validation, crops)
    return _finish(prepared, checkpoint, journal, summary)


def _check_output(run: Path) -> None:
    """Refuse a run directory that holds something, or cannot be made."""
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(
            f"output {run} exists and is not an empty folder: "
            f"name a new one, or go on with a run by --resume {run}"
        )
    above = next(parent for parent in (run, *run.absolute().parents) if parent.exists())
    try:
        with TemporaryDirectory(prefix=f".{run.name}.", dir=above):
            pass
    except OSError as error:
        raise UserError(
            f"output {run} cannot be made in {above} ({error.strerror}): choose another place"
        ) from error


def _open_run(config: TrainReidConfig, run: Path) -> None:
    """Make the run directory, with the configuration that repeats the run."""
    run.mkdir(parents=True, exist_ok=True)
    write_whole(run / CONFIG_FILE, yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def _describe(asked: NetworkConfig, num_people: int, schema: AttributeSchema) -> NetworkSpec:
    """The network that is asked for, of what is said of it only what it has."""
    known = {**asdict(asked), "num_people": num_people, "schema": schema}
    has = NETWORKS[asked.name].fields
    return describe_network(
        asked.name, **{field: value for field, value in known.items() if field in has}
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, for a YAML file that anything can read."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _labels(manifest: Manifest, split: str) -> LabelledCrops:
    """What the manifest says of the images of a split."""
    rows = np.flatnonzero(pa.compute.equal(manifest.table["split"], split).to_numpy())
    table = manifest.table.take(rows)
    columns = [table[column].to_numpy() for column in manifest.schema.columns]
    return LabelledCrops(
        rows=rows.astype(np.int64),
        people=table["person"].to_numpy().astype(np.int64),
        cameras=table["camera"].fill_null(UNKNOWN).to_numpy().astype(np.int64),
        codes=np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), dtype=np.int8),
        schema=manifest.schema,
    )


def _decode(prepared: PreparedTraining) -> ResidentCrops:
    """Decode training and validation images; too many bad ones end the job."""
    config, table = prepared.config, prepared.manifest.table
    crops = decode_resident(
        Location(prepared.manifest.root),
        table["path"].to_pylist(),
        table["person"].to_numpy(),
        (config.network.height, config.network.width),
    )
    check_bad_images(crops.bad, table.num_rows, config.max_bad)
    for image in crops.bad:
        log.warning("set aside: %s (%s)", image.path, image.reason)
    return crops


def _decoded(labels: LabelledCrops, crops: ResidentCrops) -> LabelledCrops:
    """The images that decoded."""
    keep = np.isin(labels.rows, crops.rows)
    return replace(
        labels,
        rows=labels.rows[keep],
        people=labels.people[keep],
        cameras=labels.cameras[keep],
        codes=labels.codes[keep],
    )


def _summarise(
    prepared: PreparedTraining,
    train: LabelledCrops,
    validation: LabelledCrops,
    crops: ResidentCrops,
) -> DataSummary:
    """The data, for the pages that people read."""
    return DataSummary(
        root=prepared.manifest.root,
        layout=prepared.manifest.layout,
        train_images=len(train.rows),
        train_people=len(np.unique(train.people)),
        val_images=len(validation.rows),
        val_people=len(np.unique(validation.people)),
        cameras=len(np.unique(train.cameras[train.cameras >= 0])),
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=prepared.manifest.notes,
    )


def _finish(
    prepared: PreparedTraining, checkpoint: Path, journal: Journal, summary: DataSummary
) -> dict[str, Any]:
    """The best epoch as a model directory, and the report."""
    run, config = prepared.run, _plain(asdict(prepared.config))
    standing, weights = read_best(checkpoint)
    network = build_network(prepared.spec)
    network.load_state_dict(weights)
    card = ModelCard(
        metric=prepared.config.validation.metric,
        training_data=prepared.manifest.fingerprint,
        recipe=config,
        metrics=standing.best,
    )
    page = model_card(config, standing.best, standing.best_epoch, summary)
    with staged_directory(run / "model", replaces=MODEL_FILES) as folder:
        save_model(folder, network, prepared.spec, card, page)
    write_run_report(
        run / "report.html",
        config=config,
        records=journal.records,
        best_epoch=standing.best_epoch,
        data=summary,
    )
    shown = ("mean_ap", "rank1", "rank5", "rank10", "mean_inp")
    figures = {name: standing.best[name] for name in shown}
    for name in ("attribute_accuracy", "attribute_majority"):
        if name in standing.best:
            figures[name] = standing.best[name]
    return {
        "run": str(run),
        "model": str(run / "model"),
        "report": str(run / "report.html"),
        "epochs": standing.epoch,
        "best_epoch": standing.best_epoch,
        **{name: round(value, 4) for name, value in figures.items()},
        "protocol": standing.best["protocol"],
        "bad_images": len(summary.bad_images),
    }
