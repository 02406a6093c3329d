"""Training a network that says several things of an image, from images to a run directory."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from reidray.accuracy import most_frequent
from reidray.config import TrainMultitaskConfig
from reidray.data.attributes import UNKNOWN
from reidray.data.ingest import IngestedCrops
from reidray.data.layouts import read_layout
from reidray.data.manifest import Manifest
from reidray.data.split import split_images, split_people
from reidray.errors import UserError
from reidray.models.directory import ModelCard
from reidray.models.networks import Network
from reidray.models.registry import NETWORKS, NetworkSpec
from reidray.reporting.multitask import (
    MultitaskFindings,
    PartFindings,
    multitask_card,
    write_multitask_report,
)
from reidray.training.multitask.examination import (
    Examination,
    LabelledImages,
    Labelling,
    examine,
)
from reidray.training.multitask.task import MultitaskTask
from reidray.training.place import Place
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
from reidray.training.trainer import Resources

log = logging.getLogger("reidray")

PARTS = {"train": "training", "val": "validation", "gallery": "test"}
GROUP = 64
"""Images that are decoded and kept together."""


@dataclass(frozen=True, kw_only=True)
class PreparedMultitask(Prepared):
    """A training on labelled images that can start.

    Attributes:
        manifest: the labelled images, in the splits train, val and gallery, the test part.
        images: what is known of the images of each split that has any.
        labelling: what there is to say of them.
    """

    config: TrainMultitaskConfig
    images: dict[str, LabelledImages]
    labelling: Labelling


def prepare_multitask(
    config: TrainMultitaskConfig, resume: Path | None = None
) -> PreparedMultitask:
    """Read and check what a training needs. No Ray, and nothing is written yet.

    Args:
        config: what to train.
        resume: a run directory to go on with, instead of a new one.

    Raises:
        UserError: the data, the network or the output do not allow it.
    """
    manifest = _split(read_layout(config.data, config.layout, strict=config.strict), config)
    images = {split: _labelled(manifest, split) for split in PARTS}
    images = {split: part for split, part in images.items() if len(part.rows)}
    count = len(images["train"].rows)
    if count < config.batch_size:
        raise UserError(
            f"a batch of {config.batch_size} images is more than the {count} training images of "
            f"{config.data}: lower --batch-size"
        )
    known = {"num_classes": len(manifest.classes), "schema": manifest.schema}
    network, spec = choose_network(config.network, config.task, known)
    labelling = _labelling(manifest, spec, images["train"])
    for note in manifest.notes:
        log.info("%s", note)
    run = choose_run(config, resume)
    config = replace(config, output=str(run), network=network)
    return PreparedMultitask(
        config=config, run=run, manifest=manifest, spec=spec, images=images, labelling=labelling
    )


def train_multitask(prepared: PreparedMultitask, *, started: float) -> dict[str, Any]:
    """Train a network that says several things of an image. Ray is connected.

    Args:
        prepared: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, or the cluster cannot place the workers.
    """
    config = prepared.config
    groups = np.arange(prepared.manifest.table.num_rows) // GROUP
    files = image_files(prepared.manifest, prepared.spec, groups, masks=prepared.labelling.masks)
    crops, resources = bring_images(files, config)
    decoded = replace(
        prepared,
        images={
            split: part.take(np.isin(part.rows, crops.rows))
            for split, part in prepared.images.items()
        },
    )
    log.info("%s", _counts(decoded, resources))
    make_task = partial(_make_task, decoded, crops)
    learned = learn(decoded, make_task, resources, started=started)
    examined = _examine(decoded, crops, learned.network, resources)
    return _finish(decoded, learned, examined, crops)


def _split(manifest: Manifest, config: TrainMultitaskConfig) -> Manifest:
    """The manifest with a share of its training images set apart, people whole."""
    labels = "label" in manifest.table.column_names
    if config.task == "pets" and not labels:
        raise UserError(
            f"{config.data}: layout {manifest.layout} has no classes: expected the layout pets, "
            "or a manifest with a column label"
        )
    if config.task == "attributes" and not manifest.schema.attributes:
        raise UserError(
            f"{config.data}: layout {manifest.layout} has no attributes: expected "
            "annotations_train.csv, or a manifest with columns attr_NAME"
        )
    knows_people = bool(pa.compute.any(pa.compute.greater(manifest.table["person"], 0)).as_py())
    split = split_people if config.task == "attributes" and knows_people else split_images
    return split(manifest, val_fraction=config.val_fraction, seed=config.split_seed)


def _labelled(manifest: Manifest, split: str) -> LabelledImages:
    """The images of a split of which something is known."""
    rows = np.flatnonzero(pa.compute.equal(manifest.table["split"], split).to_numpy())
    table = manifest.table.take(rows)
    names = ["label"] if manifest.classes else list(manifest.schema.columns)
    columns = [table[name].fill_null(UNKNOWN).to_numpy().astype(np.int64) for name in names]
    labels = np.stack(columns, axis=1)
    known = (labels >= 0).any(axis=1)
    return LabelledImages(rows[known].astype(np.int64), labels[known])


def _labelling(manifest: Manifest, spec: NetworkSpec, train: LabelledImages) -> Labelling:
    """What the network is to say of an image."""
    masks = NETWORKS[spec.name].draws_masks
    if masks and "mask_path" not in manifest.table.column_names:
        raise UserError(
            f"network {spec.name!r} draws masks and the data has none: add a column mask_path, "
            "or use --network.name pets_mobilenet_dense"
        )
    majority = (
        np.array([np.bincount(train.labels[:, 0]).argmax()])
        if manifest.classes
        else most_frequent(train.labels, manifest.schema)
    )
    return Labelling(manifest.classes, spec.schema, masks, majority)


def _counts(prepared: PreparedMultitask, resources: Resources) -> str:
    """How many images each part has, and what trains on them."""
    parts = [f"{len(part.rows):,} {PARTS[split]}" for split, part in prepared.images.items()]
    each = "1 GPU" if resources.use_gpu else f"{resources.cpus} CPU"
    return f"{', '.join(parts)} images; {prepared.config.num_workers} workers x {each}"


def _make_task(prepared: PreparedMultitask, crops: IngestedCrops, place: Place) -> MultitaskTask:
    """The task in a training process."""
    images = prepared.images
    return MultitaskTask(
        prepared.config, prepared.labelling, crops.open(), images["train"], images["val"], place
    )


def _examine(
    prepared: PreparedMultitask, crops: IngestedCrops, network: Network, resources: Resources
) -> dict[str, Examination]:
    """How good the best weights are on each part, by its name, where a worker had its place."""
    return resources.run(_examine_parts, prepared, crops, network, resources)


def _examine_parts(
    prepared: PreparedMultitask, crops: IngestedCrops, network: Network, resources: Resources
) -> dict[str, Examination]:
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = network.to(device).eval(), crops.open()
    return {
        PARTS[split]: examine(
            network, source, part, prepared.labelling, prepared.config.loss, device
        )
        for split, part in prepared.images.items()
    }


def _finish(
    prepared: PreparedMultitask,
    learned: Learned,
    examined: dict[str, Examination],
    crops: IngestedCrops,
) -> dict[str, Any]:
    """The best epoch as a model directory, and the report."""
    run, standing = prepared.run, learned.standing
    parts = {name: part.to_json() for name, part in examined.items()}
    card = ModelCard(
        metric="",
        training_data=prepared.manifest.fingerprint,
        recipe=plain(prepared.config),
        metrics=standing.best | {"training_seconds": learned.seconds, "parts": parts},
    )
    findings = MultitaskFindings(
        root=prepared.manifest.root,
        layout=prepared.manifest.layout,
        epochs=standing.epoch,
        best_epoch=standing.best_epoch,
        training_seconds=learned.seconds,
        parts={
            name: PartFindings(part.images, part.seconds, part.summary, part.labels)
            for name, part in examined.items()
        },
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=prepared.manifest.notes,
    )
    page = multitask_card(card.recipe, findings)
    write_model(run, learned.network, prepared.spec, card, page)
    write_multitask_report(
        run / "report.html", config=card.recipe, records=learned.records, findings=findings
    )
    judged = examined.get("test", examined["validation"])
    return {
        "run": str(run),
        "model": str(run / "model"),
        "report": str(run / "report.html"),
        "epochs": standing.epoch,
        "best_epoch": standing.best_epoch,
        "judged_on": "test" if "test" in examined else "validation",
        **{
            name: round(value, 4)
            for name, value in judged.summary.items()
            if isinstance(value, float)
        },
        "training_seconds": round(learned.seconds, 1),
        "inference_seconds": round(judged.seconds, 3),
        "bad_images": len(crops.bad),
    }
