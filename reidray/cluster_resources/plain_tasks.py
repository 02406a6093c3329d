"""Find the plain tasks of jobs, which are not methods of actors, and notice when they starve.

The head of a cluster records the states of tasks. Ray's state API reads the same records through
the dashboard, which a cluster may lack, so this module asks the head itself. A state arrives there
about a second late.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import common_pb2, gcs_service_pb2, gcs_service_pb2_grpc

from reidray.cluster_resources.capacity import (
    COUNTED,
    NodeResources,
    describe_resources,
    fits,
)
from reidray.terminal import count_noun

MAX_TASKS = 10_000
"""Number of tasks that one answer of the head names."""

QUERY_SECONDS = 5.0
"""Seconds that the head has for an answer."""

PAUSE_FACTOR = 20
"""A query takes the head about 10 ms for a thousand records. The next one waits for this multiple
of the time that the last one took."""

PENDING = "PENDING_NODE_ASSIGNMENT"
"""State of a task that waits for resources."""

WITHOUT_PROCESS = (PENDING, "PENDING_ARGS_AVAIL", "FINISHED", "FAILED")
WITHOUT_RESOURCES = (*WITHOUT_PROCESS, "RUNNING_IN_RAY_GET", "RUNNING_IN_RAY_WAIT")
"""States of a task that holds no CPU."""


@dataclass(frozen=True)
class PlainTask:
    """Describe a plain task that needs CPUs or GPUs.

    Attributes:
        key: id of the task, and the number of its attempt.
        job: id of its job, in hexadecimal.
        resources: resources that it needs.
    """

    key: tuple[bytes, int]
    job: str
    resources: NodeResources


def running_tasks() -> list[PlainTask]:
    """Return the plain tasks of all jobs that run and hold resources.

    Raises:
        RuntimeError: the head does not answer.
    """
    return _query(is_not=WITHOUT_RESOURCES)


def pending_tasks(job: str) -> list[PlainTask]:
    """Return the plain tasks of a job that wait for resources.

    Raises:
        RuntimeError: the head does not answer.
    """
    return _query(is_in=(PENDING,), job=job)


def _query(
    *, is_in: Sequence[str] = (), is_not: Sequence[str] = (), job: str | None = None
) -> list[PlainTask]:
    request = gcs_service_pb2.GetTaskEventsRequest(limit=MAX_TASKS)
    request.filters.exclude_driver = True
    equal, not_equal = (gcs_service_pb2.FilterPredicate.Value(n) for n in ("EQUAL", "NOT_EQUAL"))
    for states, predicate in ((is_in, equal), (is_not, not_equal)):
        for state in states:
            request.filters.state_filters.add(state=state, predicate=predicate)
    if job is not None:
        request.filters.job_filters.add(job_id=bytes.fromhex(job), predicate=equal)
    channel = init_grpc_channel(ray.get_runtime_context().gcs_address)
    try:
        stub = gcs_service_pb2_grpc.TaskInfoGcsServiceStub(channel)
        reply = stub.GetTaskEvents(request, timeout=QUERY_SECONDS)
    except grpc.RpcError as error:
        raise RuntimeError(f"the head did not name tasks: {error}") from error
    finally:
        channel.close()
    tasks = (_to_task(event) for event in reply.events_by_task)
    return [task for task in tasks if task is not None]


def _to_task(event: Any) -> PlainTask | None:
    """Return a task of the head's answer; None for another kind of task."""
    task = event.task_info
    resources = dict(task.required_resources)
    is_plain = task.type == common_pb2.TaskType.NORMAL_TASK
    if not is_plain or not any(resources.get(kind) for kind in COUNTED):
        return None
    # Those of a placement group take their resources from it.
    if task.placement_group_id:
        return None
    return PlainTask((event.task_id, event.attempt_number), event.job_id.hex(), resources)


class StarvationWatch:
    """Notice when plain tasks of a job wait, and the job makes no progress with any.

    A job that has more tasks than CPUs always has some that wait. They starve while none runs and
    none of those that wait begins.

    Args:
        job: id of the job, in hexadecimal.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._next_query = 0.0
        self._waiting: set[tuple[bytes, int]] = set()
        self._starving: dict[str, int] = {}

    def find_starving(
        self, free: Sequence[NodeResources], *, tasks_hold: bool
    ) -> Mapping[str, int]:
        """Return numbers of tasks that starve, by the resources of each in words.

        Args:
            free: free resources of each node. Tasks that fit are about to start, and do not count.
            tasks_hold: whether plain tasks of any job hold resources. If none of them runs, their
                processes start, and this job's may be among them.

        Raises:
            RuntimeError: the head does not answer.
        """
        began = time.monotonic()
        if began >= self._next_query:
            jobs = {task.job for task in running_tasks()}
            begins = self._job in jobs or (tasks_hold and not jobs)
            pending = [] if begins else pending_tasks(self._job)
            self._starving = self.update(
                [each for each in pending if not fits(each.resources, free)]
            )
            self._next_query = began + PAUSE_FACTOR * (time.monotonic() - began)
        return self._starving

    def update(self, pending: Sequence[PlainTask]) -> dict[str, int]:
        """Return numbers of tasks that starve, where none runs.

        >>> watch = StarvationWatch("01000000")
        >>> first, second = (PlainTask((id, 0), "01000000", {"CPU": 1}) for id in (b"1", b"2"))
        >>> watch.update([first, second])
        {'1 CPU': 2}
        >>> watch.update([second])  # the first has begun
        {}
        >>> watch.update([second])
        {'1 CPU': 1}

        Args:
            pending: the tasks that wait.
        """
        before, self._waiting = self._waiting, {task.key for task in pending}
        if not before <= self._waiting:
            return {}
        return dict(Counter(describe_resources(task.resources) for task in pending))


def describe_tasks(starving: Mapping[str, int]) -> str:
    """Return tasks that starve in words.

    >>> describe_tasks({"1 CPU": 50, "1 CPU and 1 GPU": 1})
    '1 CPU for 50 tasks and 1 CPU and 1 GPU for 1 task'
    """
    return " and ".join(
        f"{resources} for {count_noun(count, 'task')}" for resources, count in starving.items()
    )
