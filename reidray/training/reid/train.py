"""Training a network that recognises people, from images to a run directory."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reidray.config import TrainReidConfig
from reidray.data.attributes import UNKNOWN
from reidray.data.ingest import IngestedCrops
from reidray.data.layouts import read_layout
from reidray.data.manifest import Manifest
from reidray.data.sampling import check_identity_batch
from reidray.data.split import split_people
from reidray.errors import UserError
from reidray.models.directory import ModelCard
from reidray.models.registry import NetworkSpec
from reidray.reporting import DataSummary, model_card, write_run_report
from reidray.training.place import Place
from reidray.training.reid.task import ReidTask
from reidray.training.reid.validation import LabelledCrops
from reidray.training.run import (
    Learned,
    Prepared,
    bring_images,
    choose_network,
    choose_run,
    image_files,
    learn,
    plain,
    write_model,
)

log = logging.getLogger("reidray")


@dataclass(frozen=True, kw_only=True)
class PreparedReid(Prepared):
    """A training on people that can start.

    Attributes:
        manifest: the training people, in the splits train and val.
        train: the images of the split train; a row is a row of the manifest's table.
        validation: those of the split val.
    """

    config: TrainReidConfig
    train: LabelledCrops
    validation: LabelledCrops


def prepare_reid(config: TrainReidConfig, resume: Path | None = None) -> PreparedReid:
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
    if config.batch.spread_cameras and train.cameras.max() < 0:
        raise UserError(
            f"{config.data}: --batch.spread-cameras needs cameras and the training images name "
            "none: leave it out, or use a layout or a manifest that does"
        )
    known = {"num_people": len(np.unique(train.people)), "schema": manifest.schema}
    network, spec = choose_network(config.network, "reid", known)
    _check_something_to_learn(config, spec)
    for note in manifest.notes:
        log.info("%s", note)
    run = choose_run(config, resume)
    config = replace(config, output=str(run), network=network)
    return PreparedReid(
        config=config, run=run, manifest=manifest, spec=spec, train=train, validation=validation
    )


def train_reid(prepared: PreparedReid, *, started: float) -> dict[str, Any]:
    """Train a network that recognises people. Ray is connected.

    Args:
        prepared: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, or the cluster cannot place the workers.
    """
    config = prepared.config
    files = image_files(
        prepared.manifest, prepared.spec, prepared.manifest.table["person"].to_numpy()
    )
    crops, resources = bring_images(files, config)
    _check_everybody_left(prepared.train, crops)
    train, validation = (
        _decoded(labels, crops) for labels in (prepared.train, prepared.validation)
    )
    log.info(
        "training on %s images of %s people, validating on %s of %s; %d workers x %s",
        *(f"{count:,}" for count in (len(train.rows), len(np.unique(train.people)))),
        *(f"{count:,}" for count in (len(validation.rows), len(np.unique(validation.people)))),
        config.num_workers,
        "1 GPU" if resources.use_gpu else f"{resources.cpus} CPU",
    )
    make_task = partial(_make_task, config, crops, train, validation)
    learned = learn(prepared, make_task, resources, started=started)
    return _finish(prepared, learned, _summarise(prepared, train, validation, crops))


def _make_task(
    config: TrainReidConfig,
    crops: IngestedCrops,
    train: LabelledCrops,
    validation: LabelledCrops,
    place: Place,
) -> ReidTask:
    """The task in a training process."""
    return ReidTask(config, crops.open(), train, validation, place)


def _check_something_to_learn(config: TrainReidConfig, spec: NetworkSpec) -> None:
    """Refuse a network none of whose outputs has a loss, or a figure that it cannot have."""
    weights, knows_attributes = config.loss, bool(spec.schema.attributes)
    if not (
        weights.triplet
        or (weights.identity and spec.num_people)
        or (weights.attributes and knows_attributes)
    ):
        raise UserError(
            f"network {spec.name!r} learns nothing: every loss over what it predicts has "
            "weight 0: raise --loss.triplet"
        )
    if config.validation.select_by == "attribute_accuracy" and not knows_attributes:
        raise UserError(
            f"network {spec.name!r} predicts no attributes: --validation.select-by "
            "attribute_accuracy needs --network.name apr, or choose mean_ap"
        )


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


def _check_everybody_left(train: LabelledCrops, crops: IngestedCrops) -> None:
    """Refuse a training person none of whose images decode."""
    lost = np.setdiff1d(train.people, train.people[np.isin(train.rows, crops.rows)])
    if lost.size:
        raise UserError(
            f"no image of training person {lost[0]} decodes"
            f"{f', and of {lost.size - 1} others' if lost.size > 1 else ''}: mend their images or "
            "take them out of the training data"
        )


def _decoded(labels: LabelledCrops, crops: IngestedCrops) -> LabelledCrops:
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
    prepared: PreparedReid,
    train: LabelledCrops,
    validation: LabelledCrops,
    crops: IngestedCrops,
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


def _finish(prepared: PreparedReid, learned: Learned, summary: DataSummary) -> dict[str, Any]:
    """The best epoch as a model directory, and the report."""
    run, config, standing = prepared.run, plain(prepared.config), learned.standing
    card = ModelCard(
        metric=prepared.config.validation.metric,
        training_data=prepared.manifest.fingerprint,
        recipe=config,
        metrics=standing.best | {"training_seconds": learned.seconds},
    )
    page = model_card(config, standing.best, standing.best_epoch, summary)
    write_model(run, learned.network, prepared.spec, card, page)
    write_run_report(
        run / "report.html",
        config=config,
        records=learned.records,
        best_epoch=standing.best_epoch,
        data=summary,
    )
    shown = ("mean_ap", "rank1", "rank5", "rank10", "mean_inp")
    optional = ("attribute_accuracy", "attribute_majority")
    figures = {name: standing.best[name] for name in (*shown, *optional) if name in standing.best}
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
