"""Wait for the resources of a Ray cluster, and say for what, for how long and who holds them."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from reidray.cluster_resources.capacity import NodeResources, describe_resources
from reidray.cluster_resources.occupants import (
    Tables,
    describe_demand,
    describe_occupants,
    find_demand,
    held_by_tasks,
    read_tables,
    waits_for_itself,
)
from reidray.cluster_resources.plain_tasks import StarvationWatch, describe_tasks
from reidray.config.sections.durations import DEFAULT_WAIT, parse_duration
from reidray.errors import UserError
from reidray.progress import describe_seconds

log = logging.getLogger("reidray")

DEFAULT_PATIENCE_SECONDS = parse_duration(DEFAULT_WAIT, "wait_for_resources")

FIRST_LINE_SECONDS = 10.0
"""Seconds without a resource after which a line says so."""

GROWTH = 3
"""Factor by which the interval between two lines grows."""

POLL_SECONDS = 1.0

_patience: ContextVar[float] = ContextVar("patience", default=DEFAULT_PATIENCE_SECONDS)


def patience() -> float:
    """Return the seconds that this job waits for resources before it is refused."""
    return _patience.get()


@contextmanager
def watching_waits(
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS, *, is_shared: bool = True
) -> Iterator[None]:
    """Log a line while actors, placement groups or plain tasks of this job wait for resources.

    The first line comes after 10 s, later ones at growing intervals. Each says what is waited for,
    what the cluster has and may grow to, and which jobs hold it.

    Args:
        patience_seconds: seconds that the job waits for resources before it is refused.
        is_shared: whether other jobs may use the cluster; lines are logged only where they may.
    """
    before = _patience.set(patience_seconds)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ended,), daemon=True)
    if is_shared:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if is_shared:
            thread.join(timeout=2 * POLL_SECONDS)  # the head may not answer
        _patience.reset(before)


def _watch(ended: threading.Event) -> None:
    since, next_line = None, FIRST_LINE_SECONDS
    starvation = StarvationWatch(ray.get_runtime_context().get_job_id())
    while not ended.wait(POLL_SECONDS):
        try:
            tables = read_tables()
            needed = _find_needed(tables, starvation)
            occupants = describe_occupants(tables) if needed else ""
        except (ray.exceptions.RayError, RuntimeError) as error:
            log.debug("the head of the cluster does not answer: %s", error)
            continue
        now = time.monotonic()
        if not needed:
            since, next_line = None, FIRST_LINE_SECONDS
            continue
        since = since or now
        if now - since >= next_line:
            next_line *= GROWTH
            waited = describe_seconds(now - since)
            log.warning("waiting for %s, %s so far: %s", needed, waited, occupants)


def _find_needed(tables: Tables, starvation: StarvationWatch) -> str:
    """Return what this job waits for in words; empty where it has all or holds all itself."""
    if waits_for_itself(tables):
        return ""
    starving: Mapping[str, int] = {}
    if tables.has_queue:
        tasks_hold = bool(held_by_tasks(tables))
        starving = starvation.find_starving(tables.free, tasks_hold=tasks_hold)
    parts = describe_demand(find_demand(tables)), describe_tasks(starving)
    return " and ".join(part for part in parts if part)


def wait_for_resources(bundles: Sequence[NodeResources], field: str | None = None) -> None:
    """Wait until the cluster has room for some workers at the same time.

    An autoscaler starts nodes for them. They are not reserved: what needs them is to ask at once.

    Args:
        bundles: resources of each worker by their names in Ray; each fits on one node.
        field: the field by which a user asks for less, for the message; None without one.

    Raises:
        UserError: there was no room within the job's patience.
    """
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        deadline = time.monotonic() + patience()
        # Ray waits without Python, so that a signal has no effect until it returns.
        while not group.wait(max(0.0, min(POLL_SECONDS, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise no_room_error(_describe_bundles(bundles), field)
    finally:
        remove_placement_group(group)


def no_room_error(needed: str, field: str | None = None) -> UserError:
    """Return the error of a job that found no room within its patience.

    Args:
        needed: the resources that it needs, in words.
        field: the field by which a user asks for less; None without one.
    """
    lower = "" if field is None else f"lower `{field}`, "
    return UserError(
        f"no room for {needed} within {describe_seconds(patience())}: "
        f"{describe_occupants(read_tables())}; wait for others to end, {lower}or raise "
        "`wait_for_resources`"
    )


def _describe_bundles(bundles: Sequence[NodeResources]) -> str:
    counts: dict[str, int] = {}
    for bundle in bundles:
        described = describe_resources(bundle)
        counts[described] = counts.get(described, 0) + 1
    return describe_demand(counts)
