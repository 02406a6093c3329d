"""Run a training process, and report its progress to the driver and to Ray Train."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ray.train
import torch
from ray.train import CheckpointConsistencyMode, CheckpointUploadMode
from ray.train.torch import get_device
from ray.util.queue import Queue

from reidray.config import TrainingConfig
from reidray.config.sections.open_section import config_to_dict, default_settings
from reidray.data.crop_labels import CropLabels
from reidray.data.images.crops import CropReader
from reidray.data.ingest import CropDataset
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.factory import build_network
from reidray.registry import import_plugins
from reidray.training.distributed_context import DistributedContext
from reidray.training.failures import to_bug_error
from reidray.training.loop import Callback, Metrics, Task, TrainerConfig, fit
from reidray.training.steps.epoch_progress import StepProgress
from reidray.training.time_budget import TimeLimit

log = logging.getLogger("reidray")

CHANGEABLE_ON_RESUME = (
    "data",
    "root",
    "follow_links",
    "output",
    "max_minutes",
    "num_workers",
    "max_failures",
    "use_gpu",
    "compile",
    "sync_batchnorm",
    "ingest",
    "plugins",
)
"""Keys of the configuration that may change where a run is resumed."""

UNUSED_WEIGHTS = "parameters that were not used in producing loss"
"""Words of DDP's error about a weight without a gradient."""

BuildTask: TypeAlias = (
    "Callable[[Any, Mapping[str, CropLabels], CropReader, DistributedContext], Task]"
)
"""Function that builds a task from a configuration, labels by split, crops and this process."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Hold everything that a training process needs.

    Attributes:
        config: configuration of the training.
        architecture: description of the network.
        training_data: fingerprint of the manifest.
        labels: labels of the crops by split.
        crops: decoded images.
        build_task: function that builds the task in each process.
        limit: time limit of the job; None for no limit.
        bf16: whether the network computes in bfloat16.
        threads: CPU threads of the process.
        sync_batchnorm: whether all processes compute the statistics of batch normalisation
            together.
        changeable: keys of the configuration that may differ from the checkpoint's.
    """

    config: TrainingConfig
    architecture: Architecture[Any]
    training_data: str
    labels: Mapping[str, CropLabels]
    crops: CropDataset
    build_task: BuildTask
    limit: TimeLimit | None
    bf16: bool
    threads: int
    sync_batchnorm: bool = False
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME

    def run(self, context: DistributedContext, callback: Callback, checkpoint: Path | None) -> None:
        """Train in this process, from a checkpoint if there is one.

        Raises:
            UserError: the checkpoint belongs to another configuration, or the loss is not finite.
        """
        config = self.config
        import_plugins(config.plugins)
        torch.set_num_threads(self.threads)
        torch.manual_seed(config.seed)
        network = build_network(self.architecture, weights=config.network.weights)
        trainer = TrainerConfig(
            epochs=config.epochs,
            seed=config.seed,
            optimizer=config.optimizer,
            validation=config.validation,
            limit=self.limit,
            bf16=self.bf16,
            compile=config.compile,
            sync_batchnorm=self.sync_batchnorm,
        )
        fit(
            self.build_task(config, self.labels, self.crops.open(), context),
            network,
            trainer,
            callback,
            context=context,
            settings=resume_settings(config, self.training_data, changeable=self.changeable),
            default_settings=default_settings(config),
            checkpoint=checkpoint,
        )


def resume_settings(
    config: TrainingConfig,
    training_data: str,
    *,
    changeable: tuple[str, ...] = CHANGEABLE_ON_RESUME,
) -> Metrics:
    """Return the settings that a resumed training must share with its checkpoint.

    Args:
        config: configuration of the training.
        training_data: fingerprint of the manifest.
        changeable: keys of the configuration that may differ.
    """
    settings = {
        key: value for key, value in config_to_dict(config).items() if key not in changeable
    }
    return settings | {"training data": training_data}


def run_train_job(job: TrainJob, events: Queue | None) -> None:
    """Train as one process of a Ray Train run, from the run's last checkpoint if it has one.

    Args:
        job: training to run.
        events: queue for progress to the driver; without it only Ray Train receives reports.

    Raises:
        UserError: the checkpoint belongs to another configuration, the loss is not finite, the
            batch does not fit in memory, or several workers train a network with unused weights.
        TrainingBugError: the program failed.
        Exception: a connection, a machine or the storage failed; Ray Train restarts the workers.
    """
    try:
        _run_train_job(job, events)
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(".")[0]
        raise UserError(f"{reason}: use smaller batches, or smaller crops") from error
    except Exception as error:
        if UNUSED_WEIGHTS in str(error):
            raise UserError(
                "the network has weights that no loss reaches in a step, and several workers need "
                "a gradient of every weight: give its head a loss, or use `num_workers=1`"
            ) from error
        bug = to_bug_error(error)
        if bug is None:
            raise
        raise bug from error


def _run_train_job(job: TrainJob, events: Queue | None) -> None:
    ray_context = ray.train.get_context()
    context = DistributedContext(
        rank=ray_context.get_world_rank(),
        world_size=ray_context.get_world_size(),
        device=get_device(),
    )
    checkpoint = ray.train.get_checkpoint()
    callback = RayCallback(events, context)
    lines = send_log_lines(events) if events and context.is_main else nullcontext()
    with lines, checkpoint.as_directory() if checkpoint else nullcontext() as folder:
        try:
            job.run(context, callback, Path(folder) if folder else None)
        except UserError:
            callback.wait_for_upload()  # `resume` continues from the last checkpoint
            raise


@contextmanager
def send_log_lines(events: Queue) -> Iterator[None]:
    """Send the log lines of this process to the driver while a block runs."""
    handler = _QueueHandler(events)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _QueueHandler(logging.Handler):
    """Put the text of each log line into a queue."""

    def __init__(self, events: Queue) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Put one line into the queue."""
        self._events.put(record.getMessage())


class RayCallback:
    """Report progress to the driver, and metrics and checkpoints to Ray Train.

    A checkpoint is uploaded while the next epoch trains. At most one upload is under way, so that
    a slow store does not fill the disk, and Ray Train ends the training after the last one.
    """

    def __init__(self, events: Queue | None, context: DistributedContext) -> None:
        self._events, self._context = events, context
        self._is_uploading = False

    def on_train_start(self, records: list[Metrics]) -> None:
        """Report the epochs that the checkpoint holds."""
        self._put(records)

    def on_progress(self, progress: StepProgress) -> None:
        """Report the progress within an epoch."""
        self._put(progress)

    def on_epoch_end(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Report the epoch with its checkpoint; ranks other than 0 report nothing.

        An upload that fails ends the training with its error, though a later epoch trains.
        """
        if not self._context.is_main:
            ray.train.report({})
            return
        self._put(record)
        self.wait_for_upload()
        folder = tempfile.mkdtemp()
        try:
            save(Path(folder))
        except BaseException:
            shutil.rmtree(folder)
            raise
        ray.train.report(
            record,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
        self._is_uploading = True

    def wait_for_upload(self) -> None:
        """Wait until the last checkpoint that this rank reported is in the run directory."""
        if self._is_uploading:
            ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
            self._is_uploading = False

    def _put(self, event: list[Metrics] | StepProgress | Metrics) -> None:
        if self._events is not None:
            self._events.put(event)
