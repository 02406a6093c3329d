"""The training loop on a Ray cluster: a process for each GPU or share of the CPUs, under DDP."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue

from reidray.config import TrainReidConfig
from reidray.data.ingest import ResidentCrops
from reidray.errors import UserError
from reidray.models.registry import NetworkSpec, build_network
from reidray.session import cluster_gpus
from reidray.training.loop import LoopPlan, Metrics, StepProgress, fit, settings_of
from reidray.training.place import Place
from reidray.training.progress import Journal
from reidray.training.tasks import ReidTask
from reidray.training.validation import LabelledCrops

CHECKPOINTS = "checkpoints"
RESUMABLE_KEYS = ("data", "output", "max_minutes", "num_workers", "max_failures", "use_gpu")
"""Settings that may differ between the parts of a training that is stopped and resumed."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """All a training process needs to know.

    Attributes:
        spec: the network.
        crops: the decoded images, in the object store.
        train: the images of the training people.
        validation: the images of the validation people.
        deadline: seconds since 1970 at which training must have ended.
        bf16: whether the forward pass runs in bfloat16.
        threads: CPU threads of this process.
        events: where progress is told.
    """

    config: TrainReidConfig
    spec: NetworkSpec
    crops: ResidentCrops
    train: LabelledCrops
    validation: LabelledCrops
    deadline: float | None
    bf16: bool
    threads: int
    events: Queue


@dataclass(frozen=True)
class Resources:
    """What each training process is given.

    Attributes:
        use_gpu: whether it has a GPU.
        cpus: whole CPUs.
    """

    use_gpu: bool
    cpus: int


def place_workers(num_workers: int, use_gpu: str) -> Resources:
    """What the cluster can give to each of so many workers.

    Raises:
        UserError: it cannot place them; says what it has.
    """
    gpus = cluster_gpus()
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if use_gpu == "yes" or (use_gpu == "auto" and gpus > 0):
        if num_workers > gpus:
            raise UserError(
                f"{num_workers} workers need a GPU each and the cluster has {gpus}: "
                "lower --num-workers, or train on CPUs with --use-gpu no"
            )
        return Resources(use_gpu=True, cpus=max(1, min(sum(nodes) // num_workers, 8)))
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= num_workers:
            return Resources(use_gpu=False, cpus=cpus)
    raise UserError(
        f"{num_workers} workers need a CPU each and the cluster has {sum(nodes)}: "
        "lower --num-workers"
    )


def train_on_cluster(
    assignment: Assignment, resources: Resources, run: Path, journal: Journal
) -> Path:
    """Train until done, starting again from the last checkpoint after a crash.

    A run directory that holds checkpoints already is gone on with.

    Returns:
        The folder of the last checkpoint.

    Raises:
        UserError: a worker met a mistake of the user's.
    """
    config = assignment.config
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"assignment": assignment},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus}
            | ({"GPU": 1} if resources.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=str(run.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    with journal.follow(assignment.events):
        try:
            result = trainer.fit()
        except ray.train.WorkerGroupError as error:
            raise _mistake_behind(error) or error from error
    return Path(result.checkpoint.path)


def _mistake_behind(error: Any) -> UserError | None:
    """The user's mistake that ended the workers, if that is what it was."""
    for failure in error.worker_failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, UserError):
            return cause
    return None


def _train_worker(settings: dict[str, Assignment]) -> None:
    """What each training process runs."""
    assignment = settings["assignment"]
    config = assignment.config
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size(), get_device())
    torch.set_num_threads(assignment.threads)
    torch.manual_seed(config.seed)
    network = build_network(assignment.spec, weights=config.network.weights)
    task = ReidTask(config, assignment.crops.open(), assignment.train, assignment.validation, place)
    plan = LoopPlan(
        epochs=config.epochs,
        optimizer=config.optimizer,
        validation=config.validation,
        deadline=assignment.deadline,
        bf16=assignment.bf16,
    )
    checkpoint = ray.train.get_checkpoint()
    fit(
        task,
        network,
        plan,
        RayReporter(assignment.events, place),
        place=place,
        settings=settings_of(config, without=RESUMABLE_KEYS),
        checkpoint=Path(checkpoint.path) if checkpoint else None,
    )


class RayReporter:
    """Tells the driver how training goes, and Ray where the checkpoints are."""

    def __init__(self, events: Queue, place: Place) -> None:
        self._events, self._place = events, place

    def step(self, progress: StepProgress) -> None:
        """Tell of progress within an epoch."""
        self._events.put(progress)

    def epoch(self, record: Metrics, save: Callable[[Path], None]) -> None:
        """Hand over a checkpoint, then tell of the epoch."""
        if not self._place.leads:
            ray.train.report({})
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self._events.put(record)
