"""Run the training loop on a Ray cluster: one process for each GPU or share of the CPUs."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray
import ray.train
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reidray.cluster_resources import (
    describe_resources,
    no_room_error,
    patience,
    wait_for_resources,
)
from reidray.config import TrainingConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import IngestMode, choose_ingest_mode, ingest
from reidray.errors import MachineError, UserError
from reidray.monitoring.metrics_exporter import MetricsExporter
from reidray.storage.connections.s3_connections import open_s3_for_ray
from reidray.storage.location import Location
from reidray.training.execution.elastic_scaling import EvenScalingPolicy
from reidray.training.execution.engine import TrainingPlan
from reidray.training.execution.failures import StopOnBug, TrainingBugError
from reidray.training.execution.process_group import VisibleGpusConfig
from reidray.training.execution.resources import Resources
from reidray.training.execution.shared_labels import SharedLabels
from reidray.training.execution.train_job import TrainJob
from reidray.training.execution.worker_planning import plan_counts, plan_workers
from reidray.training.runs.checkpoint_files import CHECKPOINTS
from reidray.training.runs.run_logger import Event, RunLogger
from reidray.training.runs.training_metrics import TrainingMetrics

MAX_REASON_LENGTH = 300
"""Number of characters of a process's failure in a message."""

MAX_START_FAILURES = 3
"""Number of times that workers may fail to start. Each time Ray Train waits for their resources for
a quarter of the time that the user grants."""

ELASTIC_START_SECONDS = 20.0
"""Seconds after which an elastic training chooses its number of workers again, if those that it
chose do not start: a node that was lost counts until Ray declares it dead."""

POLL_SECONDS = "0.2"
"""Interval at which Ray polls the workers; each epoch ends by waiting for a poll."""


class RayEngine:
    """Decode and train on the Ray cluster to which this process is connected."""

    def plan(self, config: TrainingConfig, files: ImageFiles) -> TrainingPlan:
        """Plan a training, and wait until its workers have room (see `TrainingEngine`)."""
        mode = choose_ingest_mode(files, config.ingest)
        counts = plan_counts(config)
        resources = plan_workers(counts[-1], config.use_gpu, streams=mode == "stream")
        wait_for_resources([resources.reserved] * counts[0], _field_to_lower(counts[0]))
        return TrainingPlan(mode, resources, counts)

    def decode(self, files: ImageFiles, mode: IngestMode) -> CropDataset:
        """Decode the images across the cluster."""
        return ingest(files, mode)

    def share(self, labels: Mapping[str, CropLabels]) -> SharedLabels:
        """Put labels into the object store."""
        return SharedLabels(ray.put(dict(labels)))

    def train(self, job: TrainJob, plan: TrainingPlan, run: Location, logger: RunLogger) -> Path:
        """Train in the workers, and return the folder of the last checkpoint."""
        return train_on_cluster(job, plan, run, logger)


def train_on_cluster(job: TrainJob, plan: TrainingPlan, run: Location, logger: RunLogger) -> Path:
    """Train to the end, and restart from the last checkpoint after a crash.

    A run directory with checkpoints is resumed.

    Args:
        job: training to run in each process.
        plan: number of processes, and resources of each.
        run: run directory.
        logger: logger that writes the progress.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker raised it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Beside this process, so that the progress survives the loss of any other node.
    events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = build_trainer(job, plan.resources, run, events=events, counts=plan.counts)
    with MetricsExporter(run.uri) as exporter, logger.receiving(plan.describe()) as log_event:
        metrics = TrainingMetrics(exporter)

        def receive(event: Event) -> None:
            log_event(event)
            metrics.receive(event)

        with _reading(events, receive):
            return run_trainer(trainer)


@contextmanager
def _reading(events: Queue, receive: Callable[[Event], None]) -> Iterator[None]:
    """Hand over the events that arrive in a queue while a block runs."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as thread:
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


def build_trainer(
    job: TrainJob,
    resources: Resources,
    run: Location,
    *,
    events: Queue | None = None,
    counts: Sequence[int] = (),
    callbacks: Sequence[Any] = (),
) -> DataParallelTrainer:
    """Return the Ray trainer of a run directory, which resumes from its checkpoints.

    Args:
        job: training to run in each process.
        resources: resources of each process.
        run: run directory.
        events: queue for progress to the driver.
        counts: numbers of processes that an elastic training may have; by default the number of
            the configuration.
        callbacks: callbacks of Ray Train.
    """
    config = job.config
    least, most = (counts[0], counts[-1]) if counts else (config.workers, config.workers)
    is_elastic = least < most
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_SECONDS)
    start_seconds = ELASTIC_START_SECONDS if is_elastic else patience() / (MAX_START_FAILURES + 1)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(max(start_seconds, 1.0))
    scaling = ray.train.ScalingConfig(
        num_workers=(least, most) if is_elastic else most,
        use_gpu=resources.use_gpu,
        resources_per_worker=resources.reserved,
    )
    trainer_class = DataParallelTrainer
    if is_elastic:
        trainer_class = _elastic_trainer(EvenScalingPolicy(scaling, counts, patience()))
    return trainer_class(
        _worker_function(),
        train_loop_config={"job": ray.put(job), "events": events},
        backend_config=VisibleGpusConfig(),
        scaling_config=scaling,
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=run.path,
            storage_filesystem=open_s3_for_ray(run.uri),
            failure_config=ray.train.FailureConfig(
                max_failures=config.max_failures,
                controller_failure_limit=-1 if is_elastic else MAX_START_FAILURES,
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[StopOnBug(), *callbacks],
        ),
    )


def run_trainer(trainer: DataParallelTrainer) -> Path:
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
        if isinstance(cause, WorkerGroupStartupTimeoutError):
            raise _no_room_to_restart(trainer) from error
        raise
    except ray.train.WorkerGroupError as error:
        failure = next(iter(error.worker_failures.values()), error)
        reason = " ".join(str(failure).split())[:MAX_REASON_LENGTH]
        raise MachineError(
            f"training processes were lost more often than `max_failures` allows ({reason}): "
            "continue from the last checkpoint with `resume`"
        ) from error
    return to_local_folder(result.checkpoint)


def _no_room_to_restart(trainer: DataParallelTrainer) -> UserError:
    """Return the error of a training whose workers found no room, at its start or after a loss."""
    scaling = trainer.scaling_config
    needed = describe_resources(scaling.resources_per_worker)
    count = scaling.max_workers
    return no_room_error(f"{count} x ({needed})", _field_to_lower(count))


def _field_to_lower(num_workers: int) -> str | None:
    """Return the field by which a user asks for fewer workers; None where there is one."""
    return "num_workers" if num_workers > 1 else None


def _elastic_trainer(policy: EvenScalingPolicy) -> type[DataParallelTrainer]:
    """Return a trainer whose number of workers follows a policy."""

    class ElasticTrainer(DataParallelTrainer):  # type: ignore[misc]
        def _initialize_and_run_controller(self, **options: Any) -> Any:
            return super()._initialize_and_run_controller(**options | {"scaling_policy": policy})

    return ElasticTrainer


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
