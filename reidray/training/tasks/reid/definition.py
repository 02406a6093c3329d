"""Define re-ID training: its images and labels, its network, and the checks of both."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.config import TrainReidConfig
from reidray.config.data_sources import join_values
from reidray.config.sections.network_options import DEFAULT_NETWORKS, NETWORK_OPTIONS
from reidray.config.sources import Sources
from reidray.data.crop_labels import CropLabels
from reidray.data.manifest import Manifest
from reidray.data.sampling.batch_checks import check_balanced_batch, check_identity_batch
from reidray.data.split import split_by_person
from reidray.data.stored_rows import keep_rows
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.training.experiment import Labels, TaskDefinition
from reidray.training.tasks.network_choice import adapt_network, is_adaptable, resolve_network
from reidray.training.tasks.reid.report import build_reid_report
from reidray.training.tasks.reid.task import ReidTask
from reidray.training.tasks.reid.validation_queries import (
    check_cameras,
    check_queries,
    count_queries,
    validation_notes,
)

NETWORK_WITHOUT_ATTRIBUTES = "baseline"
"""Network that learns identity alone, on the backbones of `apr`."""


def label_people(config: TrainReidConfig, manifest: Manifest) -> tuple[Manifest, Labels]:
    """Split the training people, and return the images of known people with their labels.

    Raises:
        UserError: no training image shows a known person, or the protocol of the validation needs
            cameras that are unknown.
    """
    for name, rows in manifest.by_dataset("split", "person").items():
        people = rows["person"].filter(pc.equal(rows["split"], "train"))
        if not pc.any(pc.greater(people, 0)).as_py():
            layout = manifest.datasets[name].layout if name else manifest.layout
            classes = "; jobs/train_multitask.py trains on its classes" if manifest.classes else ""
            raise UserError(
                f"{name or config.data}: layout {layout} names nobody in its {len(people)} "
                "training images: expected a folder for each person, or a manifest with a column "
                f"person{classes}"
            )
    split = split_by_person(
        manifest, config.val_fraction, config.split_seed, order=config.split_order
    )
    manifest = _keep_known_people(split)
    labels = {split: CropLabels.from_manifest(manifest, split) for split in ("train", "val")}
    check_cameras(config, labels["val"])
    return manifest, labels


def adapt_reid_config(
    config: TrainReidConfig,
    labels: Labels,
    _: Manifest,
    sources: Sources | None,
) -> tuple[TrainReidConfig, list[str]]:
    """Adapt the values that no user set to data without attributes or cameras, and to few people.

    Args:
        config: configuration of the training.
        labels: labels of the crops by split.
        sources: sources of the values; None where a user set all of them.

    Returns:
        The configuration, and a phrase for each change.
    """
    train, validation = labels["train"], labels["val"]
    config, changes = _adapt_network(config, train, sources)
    no_attributes = not predicts_attributes(config) or not has_attributes(validation)
    selects_by_attributes = config.validation.select_by == "attribute_accuracy"
    if selects_by_attributes and no_attributes and is_adaptable("validation.select_by", sources):
        changes.append("the best epoch is that of the best mean_ap, not attribute_accuracy")
        config = replace(config, validation=replace(config.validation, select_by="mean_ap"))
    unknown = config.batch.spread_cameras and not names_cameras(train)
    if unknown and is_adaptable("batch.spread_cameras", sources):
        changes.append("crops of a person are not spread over cameras, as the images name none")
        config = replace(config, batch=replace(config.batch, spread_cameras=False))
    people, workers = config.batch.people, config.workers
    fitting = _most_people(config, train) // workers * workers
    if 2 * workers <= fitting < people and is_adaptable("batch.people", sources):
        changes.append(f"batches of {fitting} people instead of {people}, as there are no more")
        config = replace(config, batch=replace(config.batch, people=fitting))
    return config, changes


def resolve_reid_network(
    config: TrainReidConfig, labels: Labels, manifest: Manifest
) -> tuple[TrainReidConfig, Architecture[Any]]:
    """Resolve the network of a configuration, and check that the images can train it.

    Raises:
        UserError: the images cannot fill a batch, the network cannot be built, or it has no loss.
    """
    train = labels["train"]
    check_identity_batch(train.people, config.batch.people, config.batch.crops, config.workers)
    if train.dataset_indices is not None and config.batch.dataset_shares == "equal":
        check_balanced_batch(
            train.people, train.dataset_indices, train.datasets, config.batch.people
        )
    if config.batch.spread_cameras and not names_cameras(train):
        raise UserError(
            f"{join_values(config.data)}: `batch.spread_cameras` needs cameras and the training "
            "images name none: use `batch.spread_cameras=False`, or a layout or a manifest that "
            "names them"
        )
    data_fields = {
        "num_people": train.num_people,
        "schema": manifest.schema,
        "num_cameras": len(train.cameras),
    }
    network, architecture = resolve_network(config.network, "reid", data_fields)
    _check_losses(config, architecture, has_attributes=bool(manifest.schema.attributes))
    return replace(config, network=network), architecture


def check_validation(
    config: TrainReidConfig, labels: Labels, manifest: Manifest, read: Manifest
) -> list[str]:
    """Check that the validation people can select the best epoch, and return notes on them.

    Raises:
        UserError: no query has a match, or no attribute is known where attributes are compared.
    """
    check_queries(config, read, labels["val"])
    return validation_notes(config, manifest, labels["val"])


def check_decoded_people(config: TrainReidConfig, labels: Labels, decoded: Labels) -> None:
    """Check that each training person has an image that decodes, and some query a match.

    Raises:
        UserError: a training person has no image that decodes, or no query has a match.
    """
    lost = np.setdiff1d(labels["train"].unique_person_ids, decoded["train"].unique_person_ids)
    if lost.size:
        others = f", and of {lost.size - 1} others" if lost.size > 1 else ""
        raise UserError(
            f"no image of training person {lost[0]} decodes{others}: mend their images or "
            "take them out of the training data"
        )
    for name, queries in count_queries(decoded["val"], config.validation).items():
        if not queries:
            raise UserError(
                f"the validation images{f' of {name}' if name else ''} that decode show nobody "
                "twice, so that no query has a match: mend the images that were set aside"
            )


def group_by_person(manifest: Manifest) -> NDArray[np.int64]:
    """Return the person of each image, (N,) int64."""
    return np.asarray(manifest.table["person"].to_numpy())


def describe_people(config: TrainReidConfig, labels: Labels) -> str:
    """Return the numbers of images, people and queries, for the log."""
    train, validation = (
        f"{len(part):,} images of {part.num_people:,} people"
        for part in (labels["train"], labels["val"])
    )
    queries = sum(count_queries(labels["val"], config.validation).values())
    return f"training on {train}, validating on {validation}, {queries:,} queries"


def describe_selection(config: TrainReidConfig, labels: Labels) -> str:
    """Return the number of queries, or of images with attributes, that select the best epoch."""
    validation = labels["val"]
    if config.validation.select_by == "attribute_accuracy":
        count = int((validation.attribute_labels >= 0).any(axis=1).sum())
        counted = f"{count:,} {'image' if count == 1 else 'images'}"
    else:
        count = sum(count_queries(validation, config.validation).values())
        counted = f"{count:,} {'query' if count == 1 else 'queries'}"
    people = validation.num_people
    noun = "validation person" if people == 1 else "validation people"
    return f"{counted} of {people:,} {noun}"


def has_attributes(labels: CropLabels) -> bool:
    """Return whether any attribute of any crop is known."""
    return bool((labels.attribute_labels >= 0).any())


def names_cameras(labels: CropLabels) -> bool:
    """Return whether the camera of any crop is known."""
    return bool((labels.camera_ids >= 0).any())


def predicts_attributes(config: TrainReidConfig) -> bool:
    """Return whether the network of a configuration predicts attributes."""
    name = config.network.name or DEFAULT_NETWORKS["reid"]
    return name in NETWORK_OPTIONS and "attributes" in NETWORK_OPTIONS.get(name).predicts


REID = TaskDefinition(
    label_images=label_people,
    adapt_config=adapt_reid_config,
    resolve_network=resolve_reid_network,
    check_validation=check_validation,
    check_decoded=check_decoded_people,
    group_images=group_by_person,
    build_task=ReidTask,
    largest_batch=lambda config, labels: _most_people(config, labels["train"]) * config.batch.crops,
    describe_images=describe_people,
    describe_validation=describe_selection,
    build_report=build_reid_report,
    wrap_up_share=0.5,
    evaluates_after_training=False,
)


def _most_people(config: TrainReidConfig, train: CropLabels) -> int:
    """Return the most people that a batch can have, given the shares of the data sets in it."""
    if config.batch.dataset_shares == "proportional":
        return train.num_people
    people = [part.num_people for part in train.by_dataset().values()]
    return min(people) * len(people)


def _keep_known_people(manifest: Manifest) -> Manifest:
    """Return the images of the splits train and val that show a known person.

    A set with its own split val may have other images in these splits: a note counts them.
    """
    table = manifest.table
    is_used = pc.is_in(table["split"], value_set=pa.array(["train", "val"]))
    is_kept = pc.and_(is_used, pc.fill_null(pc.greater(table["person"], 0), False))
    lost = pc.sum(is_used).as_py() - pc.sum(is_kept).as_py()
    note = f"images of junk, distractors or nobody known in train and val, left out: {lost}"
    notes = (*manifest.notes, note) if lost else manifest.notes
    return replace(manifest, table=keep_rows(table, is_kept), notes=notes)


def _adapt_network(
    config: TrainReidConfig, train: CropLabels, sources: Sources | None
) -> tuple[TrainReidConfig, list[str]]:
    name = config.network.name
    may_choose = name is None or is_adaptable("network.name", sources)
    if may_choose and predicts_attributes(config) and not has_attributes(train):
        network, dropped = adapt_network(
            config.network, NETWORK_WITHOUT_ATTRIBUTES, sources or Sources(), chosen_for_data=True
        )
        without = f", without {' and '.join(dropped)}" if dropped else ""
        change = f"identity alone, for it names no attributes (network {network.name}{without})"
        return replace(config, network=network), [change]
    if name is None or sources is None:
        return config, []
    network, dropped = adapt_network(config.network, name, sources)
    changes = [f"{', '.join(dropped)} left out, which network {name} lacks"] if dropped else []
    return replace(config, network=network), changes


def _check_losses(
    config: TrainReidConfig, architecture: Architecture[Any], *, has_attributes: bool
) -> None:
    """Check that some output of the network has a loss, and that it gives the selected metric.

    Args:
        config: configuration of the training.
        architecture: description of the network.
        has_attributes: whether the data has attributes.

    Raises:
        UserError: the network learns nothing, or has no attributes to select the epoch by.
    """
    used, predicts = config.loss.used, bool(architecture.schema.attributes)
    of_heads = {"identity": architecture.num_people > 0, "attributes": predicts}
    if not any(of_heads.get(name, True) for name in used):
        raise UserError(
            f"network {architecture.name!r} learns nothing: every loss over what it predicts has "
            "weight 0: raise `loss.triplet`, or the weight of another loss over its embedding, "
            "such as `loss.arcface.weight`"
        )
    if config.validation.select_by == "attribute_accuracy" and not predicts:
        other = "use `network.name=apr`, or " if has_attributes else ""
        raise UserError(
            f"network {architecture.name!r} predicts no attributes, as "
            "`validation.select_by=attribute_accuracy` needs it: "
            f"{other}use `validation.select_by=mean_ap`"
        )
