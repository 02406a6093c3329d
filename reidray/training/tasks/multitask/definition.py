"""Define multi-task training: its images and labels, its network, and the checks of both."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.config import TrainMultitaskConfig
from reidray.config.sections.network_options import DEFAULT_NETWORKS, NETWORK_OPTIONS
from reidray.config.sections.validation_options import registered_metric_names
from reidray.config.sources import Sources
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.crop_labels import CropLabels
from reidray.data.manifest import Manifest
from reidray.data.split import split_by_image, split_by_person
from reidray.data.stored_rows import keep_rows
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.training.experiment import Labels, TaskDefinition
from reidray.training.tasks.multitask.report import SPLIT_NAMES, build_multitask_report
from reidray.training.tasks.multitask.task import MultitaskTask
from reidray.training.tasks.network_choice import adapt_network, is_adaptable, resolve_network

NETWORK_WITHOUT_MASKS = "pets_mobilenet_dense"
"""Network that only predicts the class."""

GROUP_SIZE = 64
"""Number of images that are decoded and stored together."""


def label_images(config: TrainMultitaskConfig, manifest: Manifest) -> tuple[Manifest, Labels]:
    """Split the training images, and return the labelled images with their labels.

    Images without any known label are left out, so that they are not decoded.

    Raises:
        UserError: the data has no labels of the task, or no known label in the split train or val.
    """
    split = _split(config, manifest)
    labels = {name: _known_labels(split, name) for name in SPLIT_NAMES}
    for name in ("train", "val"):
        if not len(labels[name]):
            has_own_val = manifest.split("val").num_rows > 0
            names = "`split_seed` or " if config.split_order == "random" else ""
            advice = "" if has_own_val else f", or choose others by {names}`val_fraction`"
            raise UserError(
                f"{config.data}: no label of a {SPLIT_NAMES[name]} image is known: "
                f"label some{advice}"
            )
    used = np.sort(np.concatenate([part.indices for part in labels.values()]))
    is_used = np.zeros(split.table.num_rows, dtype=np.bool_)
    is_used[used] = True
    split = replace(split, table=keep_rows(split.table, pa.chunked_array([is_used])))
    labels = {
        name: replace(part, indices=np.searchsorted(used, part.indices))
        for name, part in labels.items()
        if len(part)
    }
    return split, labels


def adapt_multitask_config(
    config: TrainMultitaskConfig, labels: Labels, manifest: Manifest, sources: Sources | None
) -> tuple[TrainMultitaskConfig, list[str]]:
    """Adapt the values that no user set to images without masks, and to few images.

    Args:
        config: configuration of the training.
        labels: labels of the images by split.
        manifest: images, which may have masks.
        sources: sources of the values; None where a user set all of them.

    Returns:
        The configuration, and a phrase for each change.
    """
    changes = []
    name = config.network.name
    may_choose = name is None or is_adaptable("network.name", sources)
    options = NETWORK_OPTIONS.get(name or DEFAULT_NETWORKS[config.task])
    has_masks = "mask_path" in manifest.table.column_names
    if may_choose and not has_masks and "mask" in options.predicts:
        network, _ = adapt_network(
            config.network, NETWORK_WITHOUT_MASKS, sources or Sources(), chosen_for_data=True
        )
        config = replace(config, network=network)
        changes.append(f"classes alone, for the images have no masks (network {network.name})")
    elif name is not None and sources is not None:
        network, dropped = adapt_network(config.network, name, sources)
        config = replace(config, network=network)
        if dropped:
            changes.append(f"{', '.join(dropped)} left out, which network {name} lacks")
    images = len(labels["train"])
    if 2 * config.workers <= images < config.batch_size and is_adaptable("batch_size", sources):
        changes.append(f"batches of {images} images instead of {config.batch_size}")
        config = replace(config, batch_size=images)
    return config, changes


def resolve_multitask_network(
    config: TrainMultitaskConfig, labels: Labels, manifest: Manifest
) -> tuple[TrainMultitaskConfig, Architecture[Any]]:
    """Resolve the network of a configuration, and check that the images can train it.

    Raises:
        UserError: the images cannot fill a batch, the network cannot be built, the data lacks the
            masks that it predicts, or it has no loss.
    """
    _check_batch(config, len(labels["train"]))
    data_fields = {"num_classes": len(manifest.classes), "schema": manifest.schema}
    network, architecture = resolve_network(config.network, config.task, data_fields)
    predicts_masks = "mask" in architecture.options.predicts
    if predicts_masks and "mask_path" not in manifest.table.column_names:
        raise UserError(
            f"network {architecture.name!r} draws masks and the data has none: add a column "
            f"mask_path, or use `network.name={NETWORK_WITHOUT_MASKS}`"
        )
    if not (config.loss.labels or predicts_masks):
        raise UserError(
            f"network {architecture.name!r} draws no masks and `loss.labels` is 0: it learns "
            "nothing; raise `loss.labels`"
        )
    metrics = ["validation_loss"]
    metrics += ["accuracy", "macro_f1"] if manifest.classes else ["attribute_accuracy"]
    metrics += ["mask_f1", "mask_iou"] if predicts_masks else []
    metrics += registered_metric_names("multitask")
    if config.validation.select_by not in metrics:
        raise UserError(
            f"network {architecture.name!r} has no {config.validation.select_by} on these data: "
            f"choose `validation.select_by` from {', '.join(metrics)}"
        )
    return replace(config, network=network), architecture


def check_validation(
    _config: TrainMultitaskConfig, _labels: Labels, manifest: Manifest, _read: Manifest
) -> list[str]:
    """Return a note on images of one class.

    `label_images` checks that some validation image has labels.
    """
    if len(manifest.classes) != 1:
        return []
    return [
        "the images show one class, so that every predicted class is right: add images of others"
    ]


def check_decoded_images(_config: TrainMultitaskConfig, _labels: Labels, decoded: Labels) -> None:
    """Check that some training and some validation image decodes.

    Raises:
        UserError: no image of a split decodes; the message names the split.
    """
    for split in ("train", "val"):
        if not len(decoded[split]):
            raise UserError(f"no {SPLIT_NAMES[split]} image decodes: mend the images set aside")


def group_by_row(manifest: Manifest) -> NDArray[np.int64]:
    """Return the group of each image, (N,) int64: `GROUP_SIZE` neighbours in the manifest."""
    return np.arange(manifest.table.num_rows) // GROUP_SIZE


def describe_images(_: TrainMultitaskConfig, labels: Labels) -> str:
    """Return the number of images of each split, for the log."""
    parts = [f"{len(part):,} {SPLIT_NAMES[split]}" for split, part in labels.items()]
    return f"{', '.join(parts)} images"


def describe_validation(_: TrainMultitaskConfig, labels: Labels) -> str:
    """Return the number of images that select the best epoch."""
    count = len(labels["val"])
    return f"{count:,} validation {'image' if count == 1 else 'images'}"


MULTITASK = TaskDefinition(
    label_images=label_images,
    adapt_config=adapt_multitask_config,
    resolve_network=resolve_multitask_network,
    check_validation=check_validation,
    check_decoded=check_decoded_images,
    group_images=group_by_row,
    build_task=MultitaskTask,
    largest_batch=lambda _, labels: len(labels["train"]),
    describe_images=describe_images,
    describe_validation=describe_validation,
    build_report=build_multitask_report,
    wrap_up_share=0.8,
    evaluates_after_training=True,
)


def _split(config: TrainMultitaskConfig, manifest: Manifest) -> Manifest:
    """Return a manifest with a share of its training images in the split val, split by person.

    Raises:
        UserError: the data has no labels of the task.
    """
    has_classes = "label" in manifest.table.column_names
    if config.task == "pets" and not has_classes:
        raise UserError(
            f"{config.data}: layout {manifest.layout} has no classes: expected the layout pets, "
            "or a manifest with a column label"
        )
    if config.task == "attributes" and not manifest.schema.attributes:
        raise UserError(
            f"{config.data}: layout {manifest.layout} has no attributes: expected "
            "annotations_train.csv, or a manifest with columns attr_NAME"
        )
    if config.task == "attributes" and has_classes:
        table = manifest.table.drop_columns(["label"])
        manifest = replace(manifest, table=table, classes=())
    has_people = bool(pc.any(pc.greater(manifest.table["person"], 0)).as_py())
    split = split_by_person if config.task == "attributes" and has_people else split_by_image
    return split(
        manifest,
        val_fraction=config.val_fraction,
        seed=config.split_seed,
        order=config.split_order,
    )


def _known_labels(manifest: Manifest, split: str) -> CropLabels:
    """Return the labels of the images of a split that have a known target."""
    labels = CropLabels.from_manifest(manifest, split)
    if labels.classes:
        no_attributes = np.zeros((len(labels), 0), dtype=np.int8)
        labels = replace(labels, attribute_labels=no_attributes, schema=AttributeSchema())
    return labels.take(np.any(labels.targets >= 0, axis=1))


def _check_batch(config: TrainMultitaskConfig, count: int) -> None:
    """Check that `count` training images fill a batch.

    Raises:
        UserError: there are too few; the message suggests a smaller batch.
    """
    if count >= config.batch_size:
        return
    if count >= 2 * config.workers:
        advice = f"use `batch_size={count}`, or less"
    elif count >= 2:
        advice = f"each worker needs 2: use `num_workers={count // 2}` and `batch_size={count}`"
    else:
        advice = "add images"
    raise UserError(
        f"a batch of {config.batch_size} images is more than the {count} training images of "
        f"{config.data}: {advice}"
    )
