"""The training loop on a Ray cluster: a process for each GPU or share of the CPUs, under DDP."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs
import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from reidray.cluster_resources import cluster_gpus, node_resources
from reidray.errors import MachineError, UserError
from reidray.storage.location import Location
from reidray.storage.object_store import open_s3_for_ray
from reidray.training.failures import EndAtMistakes, TrainingBugError
from reidray.training.runs.checkpoint_files import CHECKPOINTS
from reidray.training.runs.run_logger import RunLogger
from reidray.training.worker import TrainJob

Result = TypeVar("Result")

SHARE_BESIDE_DECODING = 0.5
"""Share of its CPUs that training holds where crops are streamed: Ray Data waits for ever where it
holds all."""

MOST_REASON = 300
"""Characters of the reason of a lost process that are told."""

POLL_SECONDS = "0.2"
"""How often Ray asks the workers for news; each epoch ends by waiting to be asked."""


@dataclass(frozen=True)
class Resources:
    """What each training process is given.

    Attributes:
        use_gpu: whether it has a GPU.
        cpus: CPUs that it computes on.
        share: of these CPUs that Ray keeps for it; what is left others may have.
    """

    use_gpu: bool
    cpus: int
    share: float = 1.0

    @property
    def held(self) -> dict[str, float]:
        """What Ray keeps for it."""
        return {"CPU": self.cpus * self.share} | ({"GPU": 1} if self.use_gpu else {})

    def described(self, count: int) -> str:
        """What so many workers compute on, for a person."""
        each = "1 GPU" if self.use_gpu else f"{self.cpus} CPU"
        return f"{count} worker{'s' if count != 1 else ''} x {each}"

    def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do some work in a task that is given these, and wait for it."""
        held = self.held
        task = ray.remote(num_cpus=held["CPU"], num_gpus=held.get("GPU", 0))(work)
        result: Result = ray.get(task.remote(*arguments))
        return result


def plan_workers(num_workers: int, use_gpu: str, *, streams: bool = False) -> Resources:
    """What the cluster can give to each of so many workers.

    Args:
        num_workers: training processes.
        use_gpu: yes, no, or auto for GPUs where the cluster has them.
        streams: whether their crops are decoded while they train.

    Raises:
        UserError: it cannot place them; says what it has.
    """
    share = SHARE_BESIDE_DECODING if streams else 1.0
    gpus = cluster_gpus()
    nodes = [int(node.get("CPU", 0)) for node in node_resources()]
    if use_gpu == "yes" or (use_gpu == "auto" and gpus > 0):
        if num_workers > gpus:
            raise UserError(
                f"{num_workers} workers need a GPU each and the cluster has {gpus}: "
                "lower --num-workers, or train on CPUs with --use-gpu no"
            )
        cpus = max(1, min(sum(nodes) // num_workers, 8))
        return Resources(use_gpu=True, cpus=cpus, share=share)
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= num_workers:
            return Resources(use_gpu=False, cpus=cpus, share=share)
    raise UserError(
        f"{num_workers} workers need a CPU each and the cluster has {sum(nodes)}: "
        "lower --num-workers"
    )


def train_on_cluster(job: TrainJob, resources: Resources, run: Location, logger: RunLogger) -> Path:
    """Train until done, starting again from the last checkpoint after a crash.

    A run directory that holds checkpoints already is gone on with.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker met a mistake of the user's.
    """
    events = Queue(actor_options={"num_cpus": 0})
    trainer = torch_trainer(job, resources, run, events=events)
    with logger.follow(events, resources.described(job.config.num_workers)):
        return fit(trainer)


def torch_trainer(
    job: TrainJob,
    resources: Resources,
    run: Location,
    *,
    events: Queue | None = None,
    callbacks: Sequence[Any] = (),
) -> TorchTrainer:
    """The trainer of a run directory, whose checkpoints it goes on with.

    Args:
        job: what each process trains.
        resources: what it is given.
        run: the run directory.
        events: where progress is told.
        callbacks: of Ray Train.
    """
    config = job.config
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_SECONDS)
    return TorchTrainer(
        _training_function(),
        train_loop_config={"job": ray.put(job), "events": events},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker=resources.held,
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=run.path,
            storage_filesystem=open_s3_for_ray(run.uri),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[EndAtMistakes(), *callbacks],
        ),
    )


def fit(trainer: TorchTrainer) -> Path:
    """Train to the end.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker met a mistake of the user's.
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
        reason = " ".join(str(failure).split())[:MOST_REASON]
        raise MachineError(
            f"training processes were lost, more often than --max-failures allows ({reason}): go "
            "on from the last checkpoint with --resume"
        ) from error
    return to_local_folder(result.checkpoint)


def to_local_folder(checkpoint: ray.train.Checkpoint) -> Path:
    """The folder of a checkpoint; one in an object store is brought here."""
    # `to_directory` would copy one that is here, and it is the run's own.
    is_local = isinstance(checkpoint.filesystem, pafs.LocalFileSystem)
    return Path(checkpoint.path if is_local else checkpoint.to_directory())


def _training_function() -> Callable[[dict[str, Any]], None]:
    """What each training process runs.

    Ray's controller loads it too. So it travels by value, as local functions do, and imports where
    it runs: PyTorch and timm take a process many seconds.
    """

    def train(settings: dict[str, Any]) -> None:
        from reidray.training.worker import run_train_job

        run_train_job(ray.get(settings["job"]), settings["events"])

    return train
