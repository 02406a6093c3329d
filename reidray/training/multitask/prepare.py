"""What a training on labelled images needs, read and checked before a cluster is asked for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa

from reidray.accuracy import most_frequent
from reidray.config import TrainMultitaskConfig
from reidray.data.attributes import UNKNOWN
from reidray.data.ingest import ImageFiles, IngestedCrops
from reidray.data.manifest import Manifest
from reidray.data.split import split_images, split_people
from reidray.errors import UserError
from reidray.models.registry import NETWORKS, NetworkSpec
from reidray.training.loop import Task
from reidray.training.multitask.examination import LabelledImages, Labelling
from reidray.training.multitask.task import MultitaskTask
from reidray.training.place import Place
from reidray.training.run import Prepared, check_model_place, choose_network, image_files, read_data
from reidray.training.run_directory import RunDirectory, new_run

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

    def under(self, config: TrainMultitaskConfig) -> Self:
        """A training on the same images, under another configuration.

        Raises:
            UserError: the images or the network do not allow it.
        """
        config, spec, labelling = _settle(config, self.manifest, self.images["train"])
        return replace(self, config=config, spec=spec, labelling=labelling)

    def image_files(self) -> ImageFiles:
        """The images of all parts, and their masks where masks are drawn."""
        groups = np.arange(self.manifest.table.num_rows) // GROUP
        return image_files(self.manifest, self.spec, groups, masks=self.labelling.masks)

    def decoded(self, crops: IngestedCrops) -> Self:
        """The training on the images that decode."""
        images = {
            split: part.take(np.isin(part.rows, crops.rows)) for split, part in self.images.items()
        }
        return replace(self, images=images)

    def task_maker(self, crops: IngestedCrops) -> Callable[[Place], Task]:
        """What makes the task in a training process."""
        return partial(_make_task, self, crops)

    def counts(self) -> str:
        """How much there is to learn from."""
        parts = [f"{len(part.rows):,} {PARTS[split]}" for split, part in self.images.items()]
        return f"{', '.join(parts)} images"


def prepare_multitask(
    config: TrainMultitaskConfig, run: RunDirectory | None = None
) -> PreparedMultitask:
    """Read and check what a training needs. No Ray, and nothing is written yet.

    Args:
        config: what to train.
        run: the run directory; by default the new one that the configuration names.

    Raises:
        UserError: the data, the network or the output do not allow it.
    """
    labelled = read_data(config)
    manifest = _split(labelled, config)
    images = {split: _labelled(manifest, split) for split in PARTS}
    images = {split: part for split, part in images.items() if len(part.rows)}
    config, spec, labelling = _settle(config, manifest, images["train"])
    for note in manifest.notes[len(labelled.notes) :]:
        log.info("%s", note)
    run = run or new_run(config)
    check_model_place(run)
    return PreparedMultitask(
        config=replace(config, output=run.location.uri),
        run=run,
        manifest=manifest,
        spec=spec,
        images=images,
        labelling=labelling,
    )


def _settle(
    config: TrainMultitaskConfig, manifest: Manifest, train: LabelledImages
) -> tuple[TrainMultitaskConfig, NetworkSpec, Labelling]:
    """The configuration with nothing left open, the network and its labels; all checked."""
    count = len(train.rows)
    if count < config.batch_size:
        raise UserError(
            f"a batch of {config.batch_size} images is more than the {count} training images of "
            f"{config.data}: lower --batch-size"
        )
    known = {"num_classes": len(manifest.classes), "schema": manifest.schema}
    network, spec = choose_network(config.network, config.task, known)
    labelling = _labelling(manifest, spec, train)
    _check_something_to_learn(config, spec, labelling)
    return replace(config, network=network), spec, labelling


def _check_something_to_learn(
    config: TrainMultitaskConfig, spec: NetworkSpec, labelling: Labelling
) -> None:
    """Refuse losses that all have weight 0, and a figure that the network does not have."""
    if not (config.loss.labels or labelling.masks):
        raise UserError(
            f"network {spec.name!r} draws no masks and --loss.labels is 0: it learns nothing; "
            "raise --loss.labels"
        )
    figures = ["validation_loss"]
    figures += ["accuracy", "macro_f1"] if labelling.classes else ["attribute_accuracy"]
    figures += ["mask_f1", "mask_iou"] if labelling.masks else []
    if config.validation.select_by not in figures:
        raise UserError(
            f"network {spec.name!r} has no {config.validation.select_by} on these data: choose "
            f"--validation.select-by from {', '.join(figures)}"
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


def _make_task(prepared: PreparedMultitask, crops: IngestedCrops, place: Place) -> MultitaskTask:
    """The task in a training process."""
    images = prepared.images
    return MultitaskTask(
        prepared.config, prepared.labelling, crops.open(), images["train"], images["val"], place
    )
