"""Run the training loop on a Ray cluster: one process for each GPU or share of the CPUs."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from reidray.cluster_resources import cluster_gpus, node_resources
from reidray.config import TrainingConfig
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import IngestMode, choose_ingest_mode, ingest
from reidray.errors import MachineError, UserError
from reidray.storage.location import Location
from reidray.storage.object_store import open_s3_for_ray
from reidray.training.execution.engine import TrainingPlan
from reidray.training.execution.failures import StopOnBug, TrainingBugError
from reidray.training.execution.resources import Resources, Result
from reidray.training.execution.train_job import TrainJob
from reidray.training.runs.checkpoint_files import CHECKPOINTS
from reidray.training.runs.run_logger import Event, RunLogger

SHARE_BESIDE_DECODING = 0.5
"""Share of its CPUs that training reserves while it streams crops. Ray Data would wait without end
if training reserved all CPUs."""

MAX_REASON_LENGTH = 300
"""Number of characters of a process's failure in a message."""

POLL_SECONDS = "0.2"
"""Interval at which Ray polls the workers; each epoch ends by waiting for a poll."""


@dataclass(frozen=True)
class RayResources(Resources):
    """Hold the resources that Ray reserves for each training process."""

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a function in a Ray task with these resources, and return its result."""
        reserved = self.reserved
        task = ray.remote(num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0))(function)
        result: Result = ray.get(task.remote(*arguments))
        return result


def plan_workers(num_workers: int, use_gpu: str, *, streams: bool = False) -> Resources:
    """Return the resources that the cluster can give to each worker.

    Args:
        num_workers: number of training processes.
        use_gpu: `yes`, `no`, or `auto` for GPUs where the cluster has them.
        streams: whether crops are decoded during the training.

    Raises:
        UserError: the cluster has too few CPUs or GPUs for the workers.
    """
    share = SHARE_BESIDE_DECODING if streams else 1.0
    gpus = cluster_gpus()
    nodes = [int(node.get("CPU", 0)) for node in node_resources()]
    if use_gpu == "yes" or (use_gpu == "auto" and gpus > 0):
        if num_workers > gpus:
            lower = "lower `num_workers`, or " if num_workers > 1 else ""
            raise UserError(
                f"{_describe_need(num_workers, 'GPU')} and the cluster has {gpus}: "
                f"{lower}train on CPUs with `use_gpu=no`"
            )
        cpus = max(1, min(sum(nodes) // num_workers, 8))
        return RayResources(use_gpu=True, cpus=cpus, share=share)
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= num_workers:
            return RayResources(use_gpu=False, cpus=cpus, share=share)
    raise UserError(
        f"{_describe_need(num_workers, 'CPU')} and the cluster has {sum(nodes)}: "
        "lower `num_workers`, or start Ray with more CPUs"
    )


def _describe_need(num_workers: int, kind: str) -> str:
    """Return what workers need, such as `2 workers need a GPU each`."""
    each = f"{num_workers} workers need a {kind} each"
    return f"1 worker needs a {kind}" if num_workers == 1 else each


class RayEngine:
    """Decode and train on the Ray cluster to which this process is connected."""

    def plan(self, config: TrainingConfig, files: ImageFiles) -> TrainingPlan:
        """Return the ingest mode and the resources of each worker (see `TrainingEngine`)."""
        mode = choose_ingest_mode(files, config.ingest)
        resources = plan_workers(config.num_workers, config.use_gpu, streams=mode == "stream")
        return TrainingPlan(mode, resources)

    def decode(self, files: ImageFiles, mode: IngestMode) -> CropDataset:
        """Decode the images across the cluster."""
        return ingest(files, mode)

    def train(self, job: TrainJob, resources: Resources, run: Location, logger: RunLogger) -> Path:
        """Train in the workers, and return the folder of the last checkpoint."""
        return train_on_cluster(job, resources, run, logger)


def train_on_cluster(job: TrainJob, resources: Resources, run: Location, logger: RunLogger) -> Path:
    """Train to the end, and restart from the last checkpoint after a crash.

    A run directory with checkpoints is resumed.

    Args:
        job: training to run in each process.
        resources: resources of each process.
        run: run directory.
        logger: logger that writes the progress.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker raised it.
    """
    events = Queue(actor_options={"num_cpus": 0})
    trainer = build_torch_trainer(job, resources, run, events=events)
    with _writing(events, logger, resources.describe(job.config.num_workers)):
        return run_trainer(trainer)


@contextmanager
def _writing(events: Queue, logger: RunLogger, workers: str) -> Iterator[None]:
    """Write the events that arrive in a queue while a block runs."""
    ended = threading.Event()
    with logger.receiving(workers) as receive, ThreadPoolExecutor(1) as thread:
        reading = thread.submit(_read, events, receive, ended)
        try:
            yield
        finally:
            ended.set()
        reading.result()


def _read(events: Queue, receive: Callable[[Event], None], ended: threading.Event) -> None:
    """Hand over the events of a queue until it is empty and the training has ended."""
    while True:
        try:
            receive(events.get(timeout=0.5))
        except Empty:
            if ended.is_set():
                return


def build_torch_trainer(
    job: TrainJob,
    resources: Resources,
    run: Location,
    *,
    events: Queue | None = None,
    callbacks: Sequence[Any] = (),
) -> TorchTrainer:
    """Return the Ray trainer of a run directory, which resumes from its checkpoints.

    Args:
        job: training to run in each process.
        resources: resources of each process.
        run: run directory.
        events: queue for progress to the driver.
        callbacks: callbacks of Ray Train.
    """
    config = job.config
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_SECONDS)
    return TorchTrainer(
        _worker_function(),
        train_loop_config={"job": ray.put(job), "events": events},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker=resources.reserved,
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=run.path,
            storage_filesystem=open_s3_for_ray(run.uri),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[StopOnBug(), *callbacks],
        ),
    )


def run_trainer(trainer: TorchTrainer) -> Path:
    """Run a Ray trainer to the end.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker raised it.
        TrainingBugError: the program failed in a worker.
        MachineError: training processes were lost more often than the configuration allows.
    """
    try:
        result = trainer.fit()
    except ray.train.ControllerError as error:
        cause = error.controller_failure
        if isinstance(cause, UserError | TrainingBugError):
            raise cause from None
        raise
    except ray.train.WorkerGroupError as error:
        failure = next(iter(error.worker_failures.values()), error)
        reason = " ".join(str(failure).split())[:MAX_REASON_LENGTH]
        raise MachineError(
            f"training processes were lost more often than `max_failures` allows ({reason}): "
            "continue from the last checkpoint with `resume`"
        ) from error
    return to_local_folder(result.checkpoint)


def to_local_folder(checkpoint: ray.train.Checkpoint) -> Path:
    """Return the local folder of a checkpoint; download one that is in an object store."""
    # `to_directory` would copy a local checkpoint.
    is_local = isinstance(checkpoint.filesystem, pafs.LocalFileSystem)
    return Path(checkpoint.path if is_local else checkpoint.to_directory())


def _worker_function() -> Callable[[dict[str, Any]], None]:
    """Return the function that each training process runs.

    Ray's controller unpickles the function too. A local function is pickled by value and imports
    its modules where it runs, because PyTorch and timm take a process many seconds.
    """

    def train(settings: dict[str, Any]) -> None:
        from reidray.training.execution.worker import run_train_job

        run_train_job(ray.get(settings["job"]), settings["events"])

    return train
