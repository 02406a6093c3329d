"""What every training has around its loop: a run directory, a network, workers, a model."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from reidray.config import NetworkConfig, TrainingConfig
from reidray.config.sections.network_options import DEFAULT_NETWORKS
from reidray.data.ids import id_name_files
from reidray.data.images.decoding import check_bad_images
from reidray.data.ingest import CropDataset, ImageFiles, IngestMode, choose_ingest_mode, ingest
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.errors import UserError
from reidray.models.architecture import Architecture, choose_architecture
from reidray.models.directory import MODEL_FILES, ModelCard, save_model
from reidray.models.factory import build_network, check_parameter_count
from reidray.models.networks import Network
from reidray.storage.staging import atomic_folder, atomic_write, check_replaceable
from reidray.training.checkpoint import TrainerState, check_settings, read_best
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import Task
from reidray.training.ray_trainer import Resources, plan_workers, train_on_cluster
from reidray.training.runs.checkpoint_files import (
    CHECKPOINTS,
    has_checkpoints,
    newest_checkpoint,
    read_state,
)
from reidray.training.runs.run_directory import RUN_FILES, RunDirectory
from reidray.training.runs.run_logger import RunLogger
from reidray.training.time_budget import TimeLimit
from reidray.training.worker import TrainJob, resume_settings

log = logging.getLogger("reidray")

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """A training that can start: everything that needs no cluster is checked.

    Attributes:
        config: with nothing left open.
        run: the run directory.
        manifest: the images.
        architecture: the network.
    """

    config: TrainingConfig
    run: RunDirectory
    manifest: Manifest
    architecture: Architecture[Any]

    @abstractmethod
    def with_config(self, config: Any) -> Self:
        """A training of the same kind on the same images, under another configuration.

        Raises:
            UserError: the images or the network do not allow it.
        """

    @abstractmethod
    def image_files(self) -> ImageFiles:
        """The images, as crops that the network takes."""

    @abstractmethod
    def keep_decoded(self, crops: CropDataset) -> Self:
        """The training on the images that decode."""

    @abstractmethod
    def task_maker(self, crops: CropDataset) -> Callable[[DistributedContext], Task]:
        """What makes the task in a training process."""

    @abstractmethod
    def time_limit(self, started: float, seconds: float) -> TimeLimit:
        """Return the limit of a job, with what follows its training.

        Args:
            started: seconds since 1970 at which the job began.
            seconds: that it may take.
        """

    @abstractmethod
    def describe_images(self) -> str:
        """How much there is to learn from, for a person."""

    @abstractmethod
    def describe_validation(self) -> str:
        """Return what the best epoch is chosen by, such as `8 queries of 2 validation people`."""

    def train_job(
        self, crops: CropDataset, resources: Resources, limit: TimeLimit | None
    ) -> TrainJob:
        """What a training process is told.

        Args:
            crops: the images.
            resources: what it is given.
            limit: of the job's time.
        """
        precision = self.config.precision
        return TrainJob(
            config=self.config,
            architecture=self.architecture,
            training_data=self.manifest.fingerprint,
            make_task=self.task_maker(crops),
            limit=limit,
            bf16=precision == "bf16" or (precision == "auto" and resources.use_gpu),
            threads=resources.cpus,
        )


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes:
        network: with the weights of the best epoch.
        trainer_state: how far training came, with the figures of each epoch.
    """

    network: Network
    trainer_state: TrainerState

    @property
    def records(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, one for each epoch."""
        return self.trainer_state.records

    @property
    def seconds(self) -> float:
        """Spent in training and validation, without decoding or starting processes."""
        return training_seconds(self.records)


def training_seconds(records: Sequence[Mapping[str, Any]]) -> float:
    """Spent in training and validation, by the figures of each epoch."""
    return float(sum(row["seconds"] + row.get("validation_seconds", 0.0) for row in records))


Ready = TypeVar("Ready", bound=Experiment)


@dataclass(frozen=True)
class FinishedTraining(Generic[Ready]):
    """A training that ended.

    Attributes:
        experiment: what was trained, on the images that decoded.
        crops: the images.
        resources: what each worker was given.
        result: what it came to.
    """

    experiment: Ready
    crops: CropDataset
    resources: Resources
    result: TrainingResult


def read_training_manifest(config: TrainingConfig) -> Manifest:
    """Read which images there are, and what is known of them.

    Raises:
        UserError: the data are of no known layout, or something in them is wrong.
    """
    return read_manifest(
        config.data,
        config.layout,
        strict=config.strict,
        root=config.root,
        follow_links=config.follow_links,
    )


def check_model_place(run: RunDirectory) -> None:
    """Refuse a run directory whose `model` holds anything but an earlier model.

    Raises:
        UserError: names one of the files that would be lost.
    """
    check_replaceable(run.folder / "model", MODEL_FILES)


def check_resumable(experiment: Experiment) -> None:
    """Refuse to go on with a run that was begun under another configuration, or on other images.

    Raises:
        UserError: names the first difference, or a file that is damaged.
    """
    checkpoint = newest_checkpoint(experiment.run.location)
    if checkpoint is not None:
        settings = resume_settings(experiment.config, experiment.manifest.fingerprint)
        check_settings(read_state(checkpoint), settings, checkpoint.uri)


def choose_network(
    asked: NetworkConfig, task: str, known: dict[str, object]
) -> tuple[NetworkConfig, Architecture[Any]]:
    """The network that is asked for, once built to see that it can be.

    Args:
        asked: what the configuration says.
        task: reid, pets or attributes.
        known: what the data say, of fields that a network of the task may have.

    Returns:
        The configuration with nothing left open, and the description.

    Raises:
        UserError: the network cannot be built, or is not one of the task's.
    """
    options = {key: value for key, value in asdict(asked).items() if value is not None}
    weights = options.pop("weights")
    name = options.pop("name", DEFAULT_NETWORKS[task])
    architecture = choose_architecture(task, name, options, known)
    check_parameter_count(architecture)
    build_network(architecture, weights=weights)
    return replace(asked, name=name, **asdict(architecture.options)), architecture


def image_files(
    manifest: Manifest,
    architecture: Architecture[Any],
    groups: NDArray[np.int64],
    *,
    masks: bool = False,
) -> ImageFiles:
    """The images of a manifest as crops that a network takes, of its rows.

    Args:
        manifest: the images.
        architecture: the network.
        groups: (N,) int64, which images are decoded and kept together.
        masks: whether their masks are decoded beside them.
    """
    table = manifest.table
    return ImageFiles(
        location=manifest.location,
        paths=table["path"].combine_chunks(),
        groups=groups,
        size=(architecture.height, architecture.width),
        masks=table["mask_path"].combine_chunks() if masks else None,
    )


def ingest_images(files: ImageFiles, mode: IngestMode, max_bad: float) -> CropDataset:
    """Have the images of a training; those that do not decode are set aside by name.

    Raises:
        UserError: more than the share `max_bad` do not decode.
    """
    crops = ingest(files, mode)
    check_bad_images(crops.bad, len(files.paths), max_bad)
    for image in crops.bad:
        log.warning("set aside: %s (%s)", image.path, image.reason)
    return crops


def train(experiment: Ready, *, started: float) -> FinishedTraining[Ready]:
    """Have the images and train on the cluster.

    Args:
        experiment: what to train; its run directory is made where it is not there.
        started: seconds since 1970 at which the job began, for its time limit.

    Raises:
        UserError: the cluster has no room for the images or the workers, too many images do not
            decode, the time limit leaves no time to train, or the loss is not finite. A new run
            that has no checkpoint is then removed.
    """
    config = experiment.config
    files = experiment.image_files()
    mode = choose_ingest_mode(files, config.ingest)
    resources = plan_workers(config.num_workers, config.use_gpu, streams=mode == "stream")
    crops = ingest_images(files, mode, config.max_bad)
    experiment = experiment.keep_decoded(crops)
    log.info("%s; %s", experiment.describe_images(), resources.described(config.num_workers))
    limit = None
    if config.max_minutes is not None:
        limit = experiment.time_limit(started, config.max_minutes * 60)
        limit.check_room()
    is_new = not experiment.run.location.join(CONFIG_FILE).is_file()
    logger = start_run(experiment)
    job = experiment.train_job(crops, resources, limit)
    try:
        checkpoint = train_on_cluster(job, resources, experiment.run.location, logger)
    except UserError:
        if is_new and not has_checkpoints(experiment.run.location):
            experiment.run.clear((*RUN_FILES, f"{CHECKPOINTS}/*"))
        raise
    return FinishedTraining(
        experiment, crops, resources, read_result(experiment.architecture, checkpoint)
    )


def start_run(experiment: Experiment) -> RunLogger:
    """Make a run directory that holds its configuration and the numbers of people who have names.

    Returns:
        What writes its figures.
    """
    run = experiment.run
    run.folder.mkdir(parents=True, exist_ok=True)
    atomic_write(
        run.folder / CONFIG_FILE, yaml.safe_dump(plain(experiment.config), sort_keys=False)
    )
    manifest = experiment.manifest
    for name, text in id_name_files(manifest.person_ids, manifest.camera_ids).items():
        atomic_write(run.folder / name, text)
    run.share()
    return RunLogger(run, experiment.config.epochs)


def read_result(architecture: Architecture[Any], checkpoint: Path) -> TrainingResult:
    """What a training came to, from its last checkpoint."""
    state, weights = read_best(checkpoint)
    network = build_network(architecture)
    network.load_state_dict(weights)
    return TrainingResult(network, state)


def write_model(
    run: RunDirectory, network: Network, architecture: Architecture[Any], card: ModelCard, page: str
) -> None:
    """Write the model directory of a run; it appears whole or not at all."""
    with atomic_folder(run.folder / "model", replaces=MODEL_FILES) as folder:
        save_model(folder, network, architecture, card, page)


def plain(config: TrainingConfig) -> dict[str, Any]:
    """A configuration as dictionaries and lists, for a file that anything can read."""
    values: dict[str, Any] = _plain(asdict(config))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
