"""Choose where a scoring runs: in this process, or as tasks of Ray on a cluster."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch

from reidray.errors import UserError
from reidray.inference.distributed.task_runner import LocalTasks, RayTasks, TaskRunner
from reidray.inference.runs.embedding_engine import RayConnection

LISTING_THREADS = 16
"""Requests to a bucket at a time, where this process lists it."""

log = logging.getLogger("reidray")


@dataclass(frozen=True)
class ScoringEngine:
    """Hold where a scoring runs.

    Attributes:
        uses_ray_data: whether Ray Data embeds, and its tasks list, search and write.
        runner: runs functions over the shards of a listing.
    """

    uses_ray_data: bool
    runner: TaskRunner

    @property
    def name(self) -> str:
        """Return the name of the engine, as the option `engine` has it."""
        return "ray-data" if self.uses_ray_data else "local"

    def run_listing(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """Yield the results of a function that lists, in the order of the items."""
        if self.uses_ray_data:
            yield from self.runner.run(function, items)
            return
        with ThreadPoolExecutor(LISTING_THREADS, "listing") as threads:
            yield from threads.map(function, items)

    def ranking_device(self, use_gpu: Literal["auto", "yes", "no"]) -> str:
        """Return the device that ranks: a GPU, if there is one and it may be used."""
        if use_gpu == "no":
            return "cpu"
        if self.uses_ray_data:
            from reidray.cluster_resources import cluster_capacity  # imports Ray

            return "cuda" if cluster_capacity().gpus else "cpu"
        return "cuda" if torch.cuda.is_available() else "cpu"


def choose_scoring_engine(
    engine: Literal["auto", "local", "ray-data"],
    connection: RayConnection,
    folders: Sequence[Path],
) -> ScoringEngine:
    """Return where a scoring runs.

    By default that is a cluster of several machines, if the run joins one and all of them reach the
    folders that the run writes; else this process.

    Args:
        engine: the engine that the user requests.
        connection: connection to Ray, which is opened where a cluster decides.
        folders: folders on disks that the run writes. They exist, or can be made.

    Raises:
        UserError: Ray Data is requested, and a machine of the cluster does not reach a folder.
    """
    if engine == "local" or (engine == "auto" and connection.starts_ray):
        return ScoringEngine(False, LocalTasks())
    connection.open()
    from reidray.cluster_resources import cluster_capacity, wait_for_resources  # imports Ray

    capacity = cluster_capacity()
    if engine == "auto" and len(capacity.most) == 1:
        return ScoringEngine(False, LocalTasks())
    others = _other_nodes()
    for folder in folders:
        # A machine that an autoscaler has not started yet cannot be asked.
        unknown = not others and len(capacity.most) > 1
        if engine == "ray-data" and unknown:
            continue
        if not unknown and _is_shared(folder, others):
            continue
        reason = f"{folder.parent}: not every machine of the cluster is known to reach this folder"
        if engine == "ray-data":
            raise UserError(
                f"{reason}, as `engine=ray-data` needs it: give an s3:// address, or use "
                "`engine=local`"
            )
        log.info("%s; this process writes the embeddings and ranks", reason)
        return ScoringEngine(False, LocalTasks())
    wait_for_resources([{"CPU": 1}])
    return ScoringEngine(True, RayTasks(max(1, capacity.cpus)))


def _other_nodes() -> list[str]:
    """Return the ids of the machines of the cluster other than this one, with CPUs."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != own and node["Resources"].get("CPU")
    ]


def _is_shared(folder: Path, nodes: Sequence[str]) -> bool:
    """Return whether some machines see a new file of a folder of this machine."""
    if not nodes:
        return True
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = folder / f".{uuid4().hex}.part"
    mark.touch()
    try:
        exists = ray.remote(num_cpus=0)(_exists)
        found = [
            exists.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(str(mark))
            for node in nodes
        ]
        return all(ray.get(found))
    finally:
        mark.unlink()


def _exists(path: str) -> bool:
    return Path(path).exists()
