"""Run a training process, and report its progress to the driver and to Ray Train."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ray.train
import torch
from ray.train import CheckpointConsistencyMode, CheckpointUploadMode
from ray.train.torch import get_device
from ray.util.queue import Queue

from reidray.errors import UserError
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.failures import to_bug_error
from reidray.training.execution.process_group import process_group
from reidray.training.execution.train_job import TrainJob, naming_memory
from reidray.training.loop import Metrics
from reidray.training.steps.epoch_progress import StepProgress

log = logging.getLogger("reidray")

UNUSED_WEIGHTS = "parameters that were not used in producing loss"
"""Words of DDP's error about a weight without a gradient."""


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
        with naming_memory():
            _run_train_job(job, events)
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
    if context.device.type == "cuda":
        torch.cuda.set_device(context.device)
    checkpoint = ray.train.get_checkpoint()
    callback = RayCallback(events, context)
    lines = send_log_lines(events) if events and context.is_main else nullcontext()
    with lines, checkpoint.as_directory() if checkpoint else nullcontext() as folder:
        try:
            with process_group(context):
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

        If an upload fails, the training ends with its error during a later epoch.
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
