"""Hold a training that passed its checks, the functions of its task, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reidray.config import OptimizerConfig, TrainingConfig
from reidray.config.sources import Sources
from reidray.data.crop_labels import CropLabels
from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.manifest import Manifest
from reidray.losses import without_losses
from reidray.models.architecture import Architecture
from reidray.models.directory import ModelCard
from reidray.models.factory import build_network, build_without_memory
from reidray.models.networks import Network
from reidray.training.checkpoint import TrainerState, read_best_weights, read_trainer_state
from reidray.training.execution.engine import TrainingPlan
from reidray.training.execution.resources import Resources, syncs_batch_norm
from reidray.training.execution.train_job import BuildTask, TrainJob
from reidray.training.first_weights import FirstWeights
from reidray.training.runs.run_directory import RunDirectory
from reidray.training.steps.parameter_groups import check_optimizer
from reidray.training.time_budget import TimeLimit

Labels = Mapping[str, CropLabels]
"""The labels of the crops of each split that has any: `train`, `val`, `gallery`."""


@dataclass(frozen=True, kw_only=True)
class TaskDefinition:
    """Hold the functions that differ between re-ID and multi-task training.

    Attributes:
        label_images: split the manifest of a configuration; return the manifest of the images that
            the task uses, and their labels.
        adapt_config: adapt the values that no user set to the labels; return the configuration and
            a phrase for each change.
        resolve_network: return the configuration with a value for every setting of the network,
            and the architecture; raise `UserError` where the labels do not allow them.
        check_validation: return notes on the validation images, given the manifest before the
            split; raise `UserError` where they cannot select an epoch.
        check_decoded: raise `UserError` where too few images decode, given the labels before and
            after the decoding.
        group_images: return (N,) int64; images of one group are decoded and stored together.
        build_task: build the `Task` in a training process.
        largest_batch: return the most images that the labels can fill a batch with.
        describe_images: return the numbers of images, for the log.
        describe_validation: return the images that select the best epoch, such as `8 queries of 2
            validation people`.
        build_report: evaluate the result where the task needs it, and build its report.
        wrap_up_share: time to end the job, as a share of the time to start its workers.
        evaluates_after_training: whether the job evaluates all images once training has ended.
    """

    label_images: Callable[[Any, Manifest], tuple[Manifest, Labels]]
    adapt_config: Callable[[Any, Labels, Manifest, Sources | None], tuple[Any, list[str]]]
    resolve_network: Callable[[Any, Labels, Manifest], tuple[Any, Architecture[Any]]]
    check_validation: Callable[[Any, Labels, Manifest, Manifest], list[str]]
    check_decoded: Callable[[Any, Labels, Labels], None]
    group_images: Callable[[Manifest], NDArray[np.int64]]
    build_task: BuildTask
    largest_batch: Callable[[Any, Labels], int]
    describe_images: Callable[[Any, Labels], str]
    describe_validation: Callable[[Any, Labels], str]
    build_report: "Callable[[Experiment, TrainingResult, CropDataset, Resources], TrainingReport]"
    wrap_up_share: float
    evaluates_after_training: bool


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Hold a training that passed every check that needs no cluster.

    Attributes:
        task: functions of the task.
        config: configuration with every value resolved.
        run: run directory.
        manifest: images that the task uses.
        architecture: description of the network.
        labels: labels of the crops by split.
        weights: weights that the network starts from.
    """

    task: TaskDefinition
    config: TrainingConfig
    run: RunDirectory
    manifest: Manifest
    architecture: Architecture[Any]
    labels: Labels
    weights: FirstWeights = field(default_factory=FirstWeights)

    def with_config(self, config: TrainingConfig) -> Self:
        """Return an experiment on the same images with another configuration.

        Raises:
            UserError: the images or the network do not allow the configuration, or the weights that
                it starts from do not fit.
        """
        config, architecture = self.task.resolve_network(config, self.labels, self.manifest)
        check_architecture(config.optimizer, architecture)
        weights = self.weights.prepare(config, architecture)
        return replace(self, config=config, architecture=architecture, weights=weights)

    def with_sources_of(self, other: Self) -> Self:
        """Return the experiment with the weights that another one read, beside its own."""
        sources = {**self.weights.sources, **other.weights.sources}
        return replace(self, weights=replace(self.weights, sources=sources))

    def image_files(self) -> ImageFiles:
        """Return the images to decode, and their masks where the network predicts masks."""
        return image_files(self.manifest, self.architecture, self.task.group_images(self.manifest))

    def keep_decoded(self, crops: CropDataset) -> Self:
        """Return the experiment on the images that decode.

        Raises:
            UserError: too few of them are left.
        """
        decoded = {split: part.take_decoded(crops.decoded) for split, part in self.labels.items()}
        self.task.check_decoded(self.config, self.labels, decoded)
        return replace(self, labels={split: part for split, part in decoded.items() if len(part)})

    def largest_batch(self) -> int:
        """Return the most images that the data can fill a batch with."""
        return self.task.largest_batch(self.config, self.labels)

    def describe_images(self) -> str:
        """Return the numbers of training and validation images, for the log."""
        return self.task.describe_images(self.config, self.labels)

    def describe_validation(self) -> str:
        """Return the images that select the epoch, such as `8 queries of 2 validation people`."""
        return self.task.describe_validation(self.config, self.labels)

    def train_job(
        self, crops: CropDataset, resources: Resources, limit: TimeLimit | None
    ) -> TrainJob:
        """Return the job of each training process.

        Args:
            crops: decoded images.
            resources: resources of each process.
            limit: time limit of the job.
        """
        precision = self.config.precision
        return TrainJob(
            config=self.config,
            architecture=self.architecture,
            training_data=self.manifest.fingerprint,
            labels=self.labels,
            crops=crops,
            build_task=self.task.build_task,
            limit=limit,
            bf16=precision == "bf16" or (precision == "auto" and resources.use_gpu),
            threads=resources.cpus,
            weights=self.weights.source_of(self.config, self.architecture),
            sync_batchnorm=syncs_batch_norm(self.config, resources),
        )


@dataclass(frozen=True)
class DecodedExperiment:
    """Hold a training whose images are decoded.

    Attributes:
        experiment: training on the images that decode.
        crops: decoded images.
        plan: use of the machines.
    """

    experiment: Experiment
    crops: CropDataset
    plan: TrainingPlan


@dataclass(frozen=True)
class TrainingResult:
    """Hold the result of a training.

    Attributes:
        network: network with the weights of the best epoch.
        trainer_state: progress of the training, with the metrics of each epoch.
    """

    network: Network
    trainer_state: TrainerState

    @classmethod
    def from_checkpoint(cls, architecture: Architecture[Any], checkpoint: Path) -> Self:
        """Return the result that the last checkpoint of a training holds.

        Raises:
            UserError: the checkpoint is damaged.
        """
        state = read_trainer_state(checkpoint)
        network = build_network(architecture)
        network.load_state_dict(without_losses(read_best_weights(checkpoint)))
        return cls(network, state)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `metrics.jsonl`, one for each epoch."""
        return self.trainer_state.records

    @property
    def seconds(self) -> float:
        """Return the seconds of training and validation, without decoding and start-up."""
        return training_seconds(self.records)


@dataclass(frozen=True)
class TrainingReport:
    """Hold the report of a result for the run directory.

    Attributes:
        card: contents of the model's `model.json`.
        readme: text of the model's `README.md`.
        write_html: function that writes the report to a file.
        metrics: metrics of the job's JSON line, with the images that they were measured on.
    """

    card: ModelCard
    readme: str
    write_html: Callable[[Path], None]
    metrics: dict[str, Any]


def check_architecture(config: OptimizerConfig, architecture: Architecture[Any]) -> None:
    """Check that a network has the backbone, and its layers, that an optimiser asks for.

    Raises:
        UserError: it lacks them; the message names the field.
    """
    if config.needs_backbone:
        check_optimizer(config, build_without_memory(architecture))


def image_files(
    manifest: Manifest, architecture: Architecture[Any], groups: NDArray[np.int64]
) -> ImageFiles:
    """Return the images of a manifest, to decode in the input size of a network.

    Args:
        manifest: images, with masks where the network predicts them.
        architecture: description of the network.
        groups: (N,) int64; images of one group are decoded and stored together.
    """
    predicts_masks = "mask" in architecture.options.predicts
    return ImageFiles(
        location=manifest.files,
        paths=CompressedPaths.from_column(manifest.table["path"]),
        groups=groups,
        size=architecture.size,
        masks=CompressedPaths.from_column(manifest.table["mask_path"]) if predicts_masks else None,
    )


def training_seconds(records: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds of training and validation in the records of all epochs."""
    return float(sum(row["seconds"] + row.get("validation_seconds", 0.0) for row in records))
