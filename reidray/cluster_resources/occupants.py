"""Tell what this job waits for on a Ray cluster, and which jobs hold the resources.

Ray's state API needs the dashboard, which a cluster may lack. This module reads the tables of the
head itself. Plain tasks hold what neither actors nor placement groups do.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state
from ray.core.generated import gcs_pb2

from reidray.cluster_resources.capacity import (
    COUNTED,
    NodeResources,
    cluster_capacity,
    describe_resources,
    fits,
    node_resources,
)
from reidray.cluster_resources.plain_tasks import running_tasks

log = logging.getLogger("reidray")

MAX_ENTRYPOINT = 80
"""Number of characters of a job's command in a message."""

MAX_HOLDERS = 3
"""Number of jobs that a message names."""

NO_PROCESS = 0


@dataclass(frozen=True)
class Tables:
    """Hold the tables of the head of a cluster.

    Attributes:
        own_job: id of this process's job, in hexadecimal.
        actors: `ActorTableData` of the actors that have not ended.
        groups: `PlacementGroupTableData` of the placement groups that were not removed.
        jobs: commands of the jobs that have not ended, by id.
        free: free resources of each node.
        has_queue: whether tasks or actors of any job wait for resources.
    """

    own_job: str
    actors: list[Any]
    groups: list[Any]
    jobs: Mapping[str, str]
    free: list[NodeResources]
    has_queue: bool


def read_tables() -> Tables:
    """Read the tables of the connected cluster.

    Raises:
        RayError, RuntimeError: the head does not answer.
    """
    tables = state.state
    accessor = tables._connect_and_get_accessor()
    actors = map(gcs_pb2.ActorTableData.FromString, accessor.get_actor_table(None, None))
    groups = map(gcs_pb2.PlacementGroupTableData.FromString, accessor.get_placement_group_table())
    usage = gcs_pb2.ResourceUsageBatchData.FromString(accessor.get_all_resource_usage())
    return Tables(
        own_job=ray.get_runtime_context().get_job_id(),
        actors=[each for each in actors if each.state != gcs_pb2.ActorTableData.DEAD],
        groups=[each for each in groups if each.state != gcs_pb2.PlacementGroupTableData.REMOVED],
        jobs={job["JobID"]: job["Entrypoint"] for job in tables.job_table() if not job["IsDead"]},
        free=list(tables.available_resources_per_node().values()),
        has_queue=bool(usage.resource_load_by_shape.resource_demands),
    )


def find_demand(tables: Tables) -> dict[str, int]:
    """Return what this job waits for: numbers of workers by the resources of each, in words.

    A worker waits for resources while it has no process. Those that fit beside the work of others
    are about to start, and do not count.
    """
    demand: Counter[str] = Counter()
    for actor in tables.actors:
        waits = actor.pid == NO_PROCESS and actor.state != gcs_pb2.ActorTableData.ALIVE
        if actor.job_id.hex() == tables.own_job and waits and not actor.placement_group_id:
            needed = dict(actor.required_resources)
            if any(needed.values()) and not fits(needed, tables.free):
                demand[describe_resources(needed)] += 1
    for group in tables.groups:
        waits = group.state != gcs_pb2.PlacementGroupTableData.CREATED
        has_no_room = group.stats.scheduling_state == gcs_pb2.PlacementGroupStats.NO_RESOURCES
        if group.creator_job_id.hex() == tables.own_job and waits and has_no_room:
            for bundle in group.bundles:
                if not bundle.node_id.strip(b"\xff"):
                    demand[describe_resources(dict(bundle.unit_resources))] += 1
    return dict(demand)


def find_waits() -> str:
    """Return what this job waits for in words; empty where it has all that it asked for."""
    return describe_demand(find_demand(read_tables()))


def waits_for_itself(tables: Tables) -> bool:
    """Return whether this job alone holds what it waits for, as a sweep with many trials does."""
    return list(_held_by_job(tables)) == [tables.own_job] and not held_by_tasks(tables)


def describe_demand(demand: Mapping[str, int]) -> str:
    """Return a demand in words.

    >>> describe_demand({"2 CPUs": 1, "1 CPU and 1 GPU": 4})
    '2 CPUs and 4 x (1 CPU and 1 GPU)'
    """
    return " and ".join(
        resources if count == 1 else f"{count} x ({resources})"
        for resources, count in demand.items()
    )


def describe_occupants(tables: Tables) -> str:
    """Return a clause that tells what the cluster has, what is free, and who holds the rest."""
    free = {kind: sum(node.get(kind, 0) for node in tables.free) for kind in COUNTED}
    capacity = cluster_capacity()
    room = describe_resources(free) if any(free.values()) else "none"
    parts = [f"the cluster {capacity.describe()}", f"with {room} free"]
    held = _held_by_job(tables)
    holders = [
        f"{_name_job(job, tables)} ({'; '.join(_describe_share(who, share) for who, share in own)})"
        for job, own in ((job, list(own.items())) for job, own in held.items())
    ]
    tasks = held_by_tasks(tables)
    if tasks:
        names = [_name_job(job, tables) for job in _jobs_with_tasks()]
        whose = f" of {_listed(names)}" if names else ""
        holders.append(f"tasks{whose} ({describe_resources(tasks)})")
    if holders:
        parts.append(f"held by {_listed(holders)}")
    return ", ".join(parts)


def _jobs_with_tasks() -> list[str]:
    """Return the ids of the jobs whose plain tasks run; none if the head does not name them."""
    try:
        return sorted({task.job for task in running_tasks()})
    except RuntimeError as error:
        log.debug("%s", error)
        return []


def _held_by_job(tables: Tables) -> dict[str, dict[str, dict[str, float]]]:
    """Return the CPUs and GPUs that actors and placement groups hold, by job and by name."""
    held: dict[str, dict[str, dict[str, float]]] = defaultdict(
        lambda: defaultdict(lambda: dict.fromkeys(("workers", *COUNTED), 0.0))
    )
    names: dict[bytes, Counter[str]] = defaultdict(Counter)
    for actor in tables.actors:
        if actor.placement_group_id:
            names[actor.placement_group_id][actor.class_name] += 1
        elif actor.pid != NO_PROCESS:
            _add(held[actor.job_id.hex()][actor.class_name], dict(actor.required_resources))
    for group in tables.groups:
        if group.state == gcs_pb2.PlacementGroupTableData.CREATED:
            within = names[group.placement_group_id].most_common(1)
            name = within[0][0] if within else "placement group"
            for bundle in group.bundles:
                _add(held[group.creator_job_id.hex()][name], dict(bundle.unit_resources))
    counted = {
        job: {name: share for name, share in own.items() if any(share[kind] for kind in COUNTED)}
        for job, own in held.items()
    }
    return {job: own for job, own in counted.items() if own}


def held_by_tasks(tables: Tables) -> dict[str, float]:
    """Return the CPUs and GPUs that neither actors nor placement groups hold, and are not free."""
    nodes, held = node_resources(), _held_by_job(tables)
    used = {
        kind: sum(node.get(kind, 0) for node in nodes)
        - sum(node.get(kind, 0) for node in tables.free)
        - sum(share[kind] for own in held.values() for share in own.values())
        for kind in COUNTED
    }
    return {kind: round(amount, 2) for kind, amount in used.items() if amount >= 0.01}


def _add(share: dict[str, float], resources: NodeResources) -> None:
    share["workers"] += 1
    for kind in COUNTED:
        share[kind] += resources.get(kind, 0)


def _describe_share(name: str, share: Mapping[str, float]) -> str:
    amounts = describe_resources({kind: share[kind] for kind in COUNTED})
    return f"{share['workers']:g} x {name} with {amounts}"


def _name_job(job: str, tables: Tables) -> str:
    if job == tables.own_job:
        return "this job"
    command = tables.jobs.get(job)
    if command is None:
        return f"job {job}, which has ended"
    command = " ".join(command.split())
    shown = command if len(command) <= MAX_ENTRYPOINT else f"{command[:MAX_ENTRYPOINT]}..."
    return f"job {job} `{shown}`"


def _listed(names: list[str]) -> str:
    rest = len(names) - MAX_HOLDERS
    return ", ".join(names[:MAX_HOLDERS]) + (f" and {rest} more" if rest > 0 else "")
