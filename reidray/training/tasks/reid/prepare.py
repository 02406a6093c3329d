"""What a training on people needs, read and checked before a cluster is asked for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reidray.config import TrainReidConfig
from reidray.config.sources import Sources
from reidray.data.ingest import CropDataset, ImageFiles
from reidray.data.manifest import Manifest
from reidray.data.sampling import check_identity_batch
from reidray.data.split import split_by_person
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.training.adaptation import adaptation_notes
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
from reidray.training.tasks.reid.adaptation import adapt_reid
from reidray.training.tasks.reid.task import ReidTask
from reidray.training.tasks.reid.validation import LabelledCrops, label_crops
from reidray.training.tasks.reid.validation_people import (
    check_validation,
    validation_crops,
    validation_notes,
)
from reidray.training.time_budget import TimeLimit

log = logging.getLogger("reidray")

WRAP_UP_SHARE = 0.5
"""Ending a job takes this share of the time that starting the workers took."""


@dataclass(frozen=True, kw_only=True)
class ReidExperiment(Experiment):
    """A training on people that can start.

    Attributes:
        manifest: the training people, in the splits train and val.
        train: the images of the split train; a row is a row of the manifest's table.
        validation: those of the split val.
    """

    config: TrainReidConfig
    train: LabelledCrops
    validation: LabelledCrops

    def with_config(self, config: TrainReidConfig) -> Self:
        """A training on the same people, under another configuration.

        Raises:
            UserError: the images or the network do not allow it.
        """
        config, architecture = _settle(config, self.manifest, self.train)
        return replace(self, config=config, architecture=architecture)

    def image_files(self) -> ImageFiles:
        """The images, those of one person together."""
        return image_files(
            self.manifest, self.architecture, self.manifest.table["person"].to_numpy()
        )

    def keep_decoded(self, crops: CropDataset) -> Self:
        """The training on the images that decode.

        Raises:
            UserError: a training person has no image left.
        """
        train = self.train.take(np.isin(self.train.rows, crops.indices))
        lost = np.setdiff1d(self.train.people, train.people)
        if lost.size:
            others = f", and of {lost.size - 1} others" if lost.size > 1 else ""
            raise UserError(
                f"no image of training person {lost[0]} decodes{others}: mend their images or "
                "take them out of the training data"
            )
        validation = self.validation.take(np.isin(self.validation.rows, crops.indices))
        if not validation.ranking_plan().judged:
            raise UserError(
                "the validation images that decode show nobody twice, so that no query has a "
                "match: mend the images that were set aside"
            )
        return replace(self, train=train, validation=validation)

    def task_maker(self, crops: CropDataset) -> Callable[[DistributedContext], Task]:
        """What makes the task in a training process."""
        return partial(_make_task, self.config, crops, self.train, self.validation)

    def time_limit(self, started: float, seconds: float) -> TimeLimit:
        """Return the limit of a job: the report follows its training."""
        return TimeLimit(started=started, seconds=seconds, wrap_up_share=WRAP_UP_SHARE)

    def describe_images(self) -> str:
        """How much there is to learn from."""
        parts = ((len(part.rows), len(np.unique(part.people))) for part in self.parts)
        train, validation = (f"{rows:,} images of {people:,} people" for rows, people in parts)
        queries = self.validation.ranking_plan().judged
        return f"training on {train}, validating on {validation}, {queries:,} queries"

    def describe_validation(self) -> str:
        """Return how many queries, or images with attributes, choose the best epoch."""
        validation = self.validation
        people = len(np.unique(validation.people))
        if self.config.validation.select_by == "attribute_accuracy":
            counted, what = int((validation.codes >= 0).any(axis=1).sum()), ("image", "images")
        else:
            counted, what = validation.ranking_plan().judged, ("query", "queries")
        persons = "1 validation person" if people == 1 else f"{people:,} validation people"
        return f"{counted:,} {what[counted != 1]} of {persons}"

    @property
    def parts(self) -> tuple[LabelledCrops, LabelledCrops]:
        """Training and validation."""
        return self.train, self.validation


def build_reid_experiment(
    config: TrainReidConfig, run: RunDirectory | None = None, sources: Sources | None = None
) -> ReidExperiment:
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
    _check_people(config, labelled)
    manifest = _known_people(
        split_by_person(labelled, val_fraction=config.val_fraction, seed=config.split_seed)
    )
    train, validation = label_crops(manifest, "train"), validation_crops(config, manifest)
    config, changes = adapt_reid(config, train, validation, sources)
    config, architecture = _settle(config, manifest, train)
    check_validation(config, labelled, validation)
    notes = (
        *manifest.notes,
        *validation_notes(validation, manifest),
        *adaptation_notes(changes),
    )
    manifest = replace(manifest, notes=notes)
    for note in manifest.notes[len(labelled.notes) :]:
        log.info("%s", note)
    run = run or new_run(config)
    check_model_place(run)
    experiment = ReidExperiment(
        config=replace(config, output=run.location.uri),
        run=run,
        manifest=manifest,
        architecture=architecture,
        train=train,
        validation=validation,
    )
    check_resumable(experiment)
    return experiment


def _check_people(config: TrainReidConfig, labelled: Manifest) -> None:
    """Refuse a set that does not tell who is in its training images."""
    people = labelled.split("train")["person"]
    if pc.any(pc.greater(people, 0)).as_py():
        return
    classes = "; jobs/train_multitask.py trains on its classes" if labelled.classes else ""
    raise UserError(
        f"{config.data}: layout {labelled.layout} names nobody in its {len(people)} training "
        "images: expected a folder for each person, or a manifest with a column person"
        f"{classes}"
    )


def _known_people(manifest: Manifest) -> Manifest:
    """Return the images of train and val that show a known person.

    Others in these splits, of a set that names its own val, are counted in the notes.
    """
    learned = pc.is_in(manifest.table["split"], value_set=pa.array(["train", "val"]))
    table = manifest.table.filter(learned)
    known = table.filter(pc.fill_null(pc.greater(table["person"], 0), False))
    lost = table.num_rows - known.num_rows
    note = f"images of junk, distractors or nobody known in train and val, left out: {lost}"
    notes = (*manifest.notes, note) if lost else manifest.notes
    return replace(manifest, table=known.combine_chunks(), notes=notes)


def _settle(
    config: TrainReidConfig, manifest: Manifest, train: LabelledCrops
) -> tuple[TrainReidConfig, Architecture[Any]]:
    """The configuration with nothing left open, and the network; both checked."""
    _check_batch(config, train)
    known = {"num_people": len(np.unique(train.people)), "schema": manifest.schema}
    network, architecture = choose_network(config.network, "reid", known)
    _check_something_to_learn(config, architecture, labelled=bool(manifest.schema.attributes))
    return replace(config, network=network), architecture


def _make_task(
    config: TrainReidConfig,
    crops: CropDataset,
    train: LabelledCrops,
    validation: LabelledCrops,
    context: DistributedContext,
) -> ReidTask:
    """The task in a training process."""
    return ReidTask(config, crops.open(), train, validation, context)


def _check_batch(config: TrainReidConfig, train: LabelledCrops) -> None:
    """Refuse batches that the training images cannot fill."""
    check_identity_batch(train.people, config.batch.people, config.batch.crops, config.num_workers)
    if config.batch.spread_cameras and train.cameras.max() < 0:
        raise UserError(
            f"{config.data}: --batch.spread-cameras needs cameras and the training images name "
            "none: leave it out, or use a layout or a manifest that does"
        )


def _check_something_to_learn(
    config: TrainReidConfig, architecture: Architecture[Any], *, labelled: bool
) -> None:
    """Refuse a network none of whose outputs has a loss, or a figure that it cannot have.

    Args:
        config: what to train.
        architecture: the network.
        labelled: whether the data have attributes.
    """
    weights, knows_attributes = config.loss, bool(architecture.schema.attributes)
    if not (
        weights.triplet
        or (weights.identity and architecture.num_people)
        or (weights.attributes and knows_attributes)
    ):
        raise UserError(
            f"network {architecture.name!r} learns nothing: every loss over what it predicts has "
            "weight 0: raise --loss.triplet"
        )
    if config.validation.select_by == "attribute_accuracy" and not knows_attributes:
        other = "use --network.name apr, or " if labelled else ""
        raise UserError(
            f"network {architecture.name!r} predicts no attributes, as --validation.select-by "
            f"attribute_accuracy needs it: {other}use --validation.select-by mean_ap"
        )
