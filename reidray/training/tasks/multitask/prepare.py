"""What a training on labelled images needs, read and checked before a cluster is asked for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import pyarrow as pa

from reidray.config import TrainMultitaskConfig
from reidray.config.sections.network_options import DEFAULT_NETWORKS, NETWORK_OPTIONS
from reidray.config.sources import Sources
from reidray.data.attribute_schema import UNKNOWN
from reidray.data.ingest import CropDataset, ImageFiles
from reidray.data.manifest import Manifest
from reidray.data.split import split_by_image, split_by_person
from reidray.errors import UserError
from reidray.metrics.attribute_metrics import majority_labels
from reidray.models.architecture import Architecture
from reidray.training.adaptation import adapt_network, adaptation_notes, is_free
from reidray.training.distributed_context import DistributedContext
from reidray.training.experiment import (
    Experiment,
    check_model_place,
    check_resumable,
    choose_network,
    image_files,
    read_training_manifest,
)
from reidray.training.loop import Task
from reidray.training.runs.run_directory import RunDirectory, new_run
from reidray.training.tasks.multitask.label_evaluation import LabelledImages, Labelling
from reidray.training.tasks.multitask.task import MultitaskTask
from reidray.training.time_budget import TimeLimit

log = logging.getLogger("reidray")

WRAP_UP_SHARE = 0.8
"""Ending a job takes this share of the time that starting the workers took: a new process
judges the images."""

PARTS = {"train": "training", "val": "validation", "gallery": "test"}
WITHOUT_MASKS = "pets_mobilenet_dense"
"""The network that names the class alone."""

GROUP = 64
"""Images that are decoded and kept together."""


@dataclass(frozen=True, kw_only=True)
class MultitaskExperiment(Experiment):
    """A training on labelled images that can start.

    Attributes:
        manifest: the labelled images, in the splits train, val and gallery, the test part.
        images: what is known of the images of each split that has any.
        labelling: what there is to say of them.
    """

    config: TrainMultitaskConfig
    images: dict[str, LabelledImages]
    labelling: Labelling

    def with_config(self, config: TrainMultitaskConfig) -> Self:
        """A training on the same images, under another configuration.

        Raises:
            UserError: the images or the network do not allow it.
        """
        config, architecture, labelling = _settle(config, self.manifest, self.images["train"])
        return replace(self, config=config, architecture=architecture, labelling=labelling)

    def image_files(self) -> ImageFiles:
        """The images of all parts, and their masks where masks are drawn."""
        groups = np.arange(self.manifest.table.num_rows) // GROUP
        return image_files(self.manifest, self.architecture, groups, masks=self.labelling.masks)

    def keep_decoded(self, crops: CropDataset) -> Self:
        """The training on the images that decode.

        Raises:
            UserError: no training or no validation image is left.
        """
        images = {
            split: part.take(np.isin(part.rows, crops.indices))
            for split, part in self.images.items()
        }
        for split in ("train", "val"):
            if not len(images[split].rows):
                raise UserError(f"no {PARTS[split]} image decodes: mend the images set aside")
        return replace(self, images={k: part for k, part in images.items() if len(part.rows)})

    def task_maker(self, crops: CropDataset) -> Callable[[DistributedContext], Task]:
        """What makes the task in a training process."""
        return partial(_make_task, self, crops)

    def time_limit(self, started: float, seconds: float) -> TimeLimit:
        """Return the limit of a job: judging all images and the report follow its training."""
        return TimeLimit(
            started=started,
            seconds=seconds,
            wrap_up_share=WRAP_UP_SHARE,
            judged_after=sum(len(part.rows) for part in self.images.values()),
        )

    def describe_images(self) -> str:
        """How much there is to learn from."""
        parts = [f"{len(part.rows):,} {PARTS[split]}" for split, part in self.images.items()]
        return f"{', '.join(parts)} images"

    def describe_validation(self) -> str:
        """Return how many images choose the best epoch."""
        count = len(self.images["val"].rows)
        return "1 validation image" if count == 1 else f"{count:,} validation images"


def build_multitask_experiment(
    config: TrainMultitaskConfig, run: RunDirectory | None = None, sources: Sources | None = None
) -> MultitaskExperiment:
    """Read and check what a training needs. No Ray, and nothing is written yet.

    Args:
        config: what to train.
        run: the run directory; by default the new one that the configuration names.
        sources: where the values come from: those that nobody asked for are adapted to the data.
            None adapts nothing that has a value.

    Raises:
        UserError: the data, the network or the output do not allow it.
    """
    labelled = read_training_manifest(config)
    own_val = labelled.split("val").num_rows > 0
    manifest, images = _used_images(_split(labelled, config), config, own_val=own_val)
    masks = "mask_path" in manifest.table.column_names
    config, changes = _adapt(config, len(images["train"].rows), sources, masks=masks)
    config, architecture, labelling = _settle(config, manifest, images["train"])
    manifest = replace(manifest, notes=(*manifest.notes, *adaptation_notes(changes)))
    for note in manifest.notes[len(labelled.notes) :]:
        log.info("%s", note)
    run = run or new_run(config)
    check_model_place(run)
    experiment = MultitaskExperiment(
        config=replace(config, output=run.location.uri),
        run=run,
        manifest=manifest,
        architecture=architecture,
        images=images,
        labelling=labelling,
    )
    check_resumable(experiment)
    return experiment


def _used_images(
    manifest: Manifest, config: TrainMultitaskConfig, *, own_val: bool
) -> tuple[Manifest, dict[str, LabelledImages]]:
    """Return the images that are trained on or judged, and their labels by split.

    Images of which nothing is known are left out, so that they are not decoded.

    Args:
        manifest: the images in their splits.
        config: what to train.
        own_val: whether the set itself says which images are val.

    Raises:
        UserError: train or val has none of which anything is known.
    """
    parts = {split: _labelled(manifest, split) for split in PARTS}
    for split in ("train", "val"):
        if not len(parts[split].rows):
            others = "" if own_val else ", or choose others by --split-seed or --val-fraction"
            raise UserError(
                f"{config.data}: no label of a {PARTS[split]} image is known: label some{others}"
            )
    used = np.sort(np.concatenate([part.rows for part in parts.values()]))
    manifest = replace(manifest, table=manifest.table.take(used).combine_chunks())
    parts = {
        split: LabelledImages(np.searchsorted(used, part.rows), part.labels)
        for split, part in parts.items()
        if len(part.rows)
    }
    return manifest, parts


def _adapt(
    config: TrainMultitaskConfig, images: int, sources: Sources | None, *, masks: bool
) -> tuple[TrainMultitaskConfig, list[str]]:
    """Adapt what nobody asked for to images without masks, to the network, and to few images.

    Args:
        config: what to train.
        images: how many training images there are.
        sources: where the values come from; None where all of them were asked for.
        masks: whether the images have masks.

    Returns:
        The configuration, and what was changed, in some words each.
    """
    changes = []
    asked = config.network.name
    free = asked is None or is_free("network.name", sources)
    draws = "mask" in NETWORK_OPTIONS.get(asked or DEFAULT_NETWORKS[config.task]).predicts
    if free and not masks and draws:
        network, _ = adapt_network(
            config.network, WITHOUT_MASKS, sources or Sources(), chosen_for_data=True
        )
        config = replace(config, network=network)
        changes.append(f"classes alone, for the images have no masks (network {network.name})")
    elif asked is not None and sources is not None:
        network, lacking = adapt_network(config.network, asked, sources)
        config = replace(config, network=network)
        if lacking:
            changes.append(f"{', '.join(lacking)} left out, which network {asked} lacks")
    if 2 * config.num_workers <= images < config.batch_size and is_free("batch_size", sources):
        changes.append(f"batches of {images} images instead of {config.batch_size}")
        config = replace(config, batch_size=images)
    return config, changes


def _settle(
    config: TrainMultitaskConfig, manifest: Manifest, train: LabelledImages
) -> tuple[TrainMultitaskConfig, Architecture[Any], Labelling]:
    """The configuration with nothing left open, the network and its labels; all checked."""
    count = len(train.rows)
    if count < config.batch_size:
        needed = 2 * config.num_workers
        advice = (
            f"use --batch-size {count}, or less"
            if count >= needed
            else f"each worker needs 2: use --num-workers {count // 2} and --batch-size {count}"
            if count >= 2
            else "add images"
        )
        raise UserError(
            f"a batch of {config.batch_size} images is more than the {count} training images of "
            f"{config.data}: {advice}"
        )
    known = {"num_classes": len(manifest.classes), "schema": manifest.schema}
    network, architecture = choose_network(config.network, config.task, known)
    labelling = _labelling(manifest, architecture, train)
    _check_something_to_learn(config, architecture, labelling)
    return replace(config, network=network), architecture, labelling


def _check_something_to_learn(
    config: TrainMultitaskConfig, architecture: Architecture[Any], labelling: Labelling
) -> None:
    """Refuse losses that all have weight 0, and a figure that the network does not have."""
    if not (config.loss.labels or labelling.masks):
        raise UserError(
            f"network {architecture.name!r} draws no masks and --loss.labels is 0: it learns "
            "nothing; raise --loss.labels"
        )
    figures = ["validation_loss"]
    figures += ["accuracy", "macro_f1"] if labelling.classes else ["attribute_accuracy"]
    figures += ["mask_f1", "mask_iou"] if labelling.masks else []
    if config.validation.select_by not in figures:
        raise UserError(
            f"network {architecture.name!r} has no {config.validation.select_by} on these data: "
            f"choose --validation.select-by from {', '.join(figures)}"
        )


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
    if config.task == "attributes" and labels:
        table = manifest.table.drop_columns(["label"])
        manifest = replace(manifest, table=table, classes=())
    knows_people = bool(pa.compute.any(pa.compute.greater(manifest.table["person"], 0)).as_py())
    split = split_by_person if config.task == "attributes" and knows_people else split_by_image
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


def _labelling(
    manifest: Manifest, architecture: Architecture[Any], train: LabelledImages
) -> Labelling:
    """What the network is to say of an image."""
    masks = "mask" in architecture.options.predicts
    if masks and "mask_path" not in manifest.table.column_names:
        raise UserError(
            f"network {architecture.name!r} draws masks and the data has none: add a column "
            f"mask_path, or use --network.name {WITHOUT_MASKS}"
        )
    majority = (
        np.array([np.bincount(train.labels[:, 0]).argmax()])
        if manifest.classes
        else majority_labels(train.labels, manifest.schema)
    )
    return Labelling(manifest.classes, architecture.schema, masks, majority)


def _make_task(
    experiment: MultitaskExperiment, crops: CropDataset, context: DistributedContext
) -> MultitaskTask:
    """The task in a training process."""
    images = experiment.images
    return MultitaskTask(
        experiment.config,
        experiment.labelling,
        crops.open(),
        images["train"],
        images["val"],
        context,
    )
