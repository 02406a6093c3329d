"""Run functions over the pieces of a set: in this process, or as tasks of Ray.

A function takes a piece and values that all its calls share, such as the contents of a store. The
values, and results that `collect` merges, stay where they are computed; this process holds
references to them.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from reidray.errors import MachineError, UserError
from reidray.storage.retries import retry_count

if TYPE_CHECKING:
    from ray.exceptions import RayTaskError

MERGED_TOGETHER = 8
"""Results that one call merges."""

TASK_RETRIES = 8
"""Times that Ray runs a task again whose process or machine is lost."""

Shared = Any
"""A value that `share` or `collect` returned: the value itself, or a reference of Ray to it."""


class TaskRunner(Protocol):
    """Define what runs the functions."""

    @property
    def parallelism(self) -> int:
        """Return the number of calls that run at a time."""

    @property
    def num_retries(self) -> int:
        """Return the requests to an object store that other processes have sent again so far."""

    def share(self, value: Any) -> Shared:
        """Return a value in the form that calls share."""

    def fetch(self, value: Shared) -> Any:
        """Return a shared value in this process."""

    def call(self, function: Callable[..., Any], *shared: Shared, on_gpu: bool = False) -> Shared:
        """Return the result of `function(*shared)`, in the form that calls share.

        Args:
            function: the function.
            shared: its arguments.
            on_gpu: whether the call needs a GPU.
        """

    def run(
        self, function: Callable[..., Any], items: Iterable[Any], *shared: Shared
    ) -> Iterator[Any]:
        """Yield the results of `function(item, *shared)` in the order of the items."""

    def collect(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *shared: Shared,
        merge: Callable[[Sequence[Any]], Any],
        on_gpu: bool = False,
    ) -> Shared:
        """Return the merged results of `function(item, *shared)`, in the form that calls share.

        Args:
            function: the function.
            items: one item or more.
            shared: values that all calls share.
            merge: merges results, those of neighbouring items first; it may merge merged results.
            on_gpu: whether each call needs a GPU.
        """


class LocalTasks:
    """Run functions in this process, one call after the other."""

    parallelism = 1
    num_retries = 0

    def share(self, value: Any) -> Shared:
        """Return the value."""
        return value

    def fetch(self, value: Shared) -> Any:
        """Return the value."""
        return value

    def call(
        self,
        function: Callable[..., Any],
        *shared: Shared,
        on_gpu: bool = False,  # noqa: ARG002 - this process has the GPU
    ) -> Shared:
        """Return the result of the function."""
        return function(*shared)

    def run(
        self, function: Callable[..., Any], items: Iterable[Any], *shared: Shared
    ) -> Iterator[Any]:
        """Yield the results in the order of the items."""
        return (function(item, *shared) for item in items)

    def collect(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *shared: Shared,
        merge: Callable[[Sequence[Any]], Any],
        on_gpu: bool = False,  # noqa: ARG002 - this process has the GPU
    ) -> Shared:
        """Return the merged results; at most `MERGED_TOGETHER` are in memory at a time."""
        merged: list[Any] = []
        for item in items:
            merged.append(function(item, *shared))
            if len(merged) == MERGED_TOGETHER:
                merged = [merge(merged)]
        return merge(merged)


class RayTasks:
    """Run functions as tasks of the Ray cluster to which this process is connected."""

    def __init__(self, parallelism: int) -> None:
        """Take the number of tasks that run at a time, the CPUs of the cluster."""
        self.parallelism = parallelism
        self._retries: list[Shared] = []

    @property
    def num_retries(self) -> int:
        """Return the number of requests to an object store that tasks have sent again so far."""
        import ray

        return sum(ray.get(self._retries))

    def share(self, value: Any) -> Shared:
        """Put a value into the object store."""
        import ray

        return ray.put(value)

    def fetch(self, value: Shared) -> Any:
        """Return a value of the object store."""
        import ray

        try:
            return ray.get(value)
        except ray.exceptions.RayTaskError as error:
            raise find_cause(error) from None

    def call(self, function: Callable[..., Any], *shared: Shared, on_gpu: bool = False) -> Shared:
        """Submit a task, and return the reference to its result."""
        result, retries = _task(on_gpu=on_gpu).remote(function, *shared)
        self._retries.append(retries)
        return result

    def run(
        self, function: Callable[..., Any], items: Iterable[Any], *shared: Shared
    ) -> Iterator[Any]:
        """Yield the results in the order of the items."""
        submitted = [self.call(function, item, *shared) for item in items]
        return (self.fetch(each) for each in submitted)

    def collect(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *shared: Shared,
        merge: Callable[[Sequence[Any]], Any],
        on_gpu: bool = False,
    ) -> Shared:
        """Merge the results in a tree of tasks, and return the reference to its root."""
        level = [self.call(function, item, *shared, on_gpu=on_gpu) for item in items]
        while True:
            groups = _groups(level, MERGED_TOGETHER)
            level = [self.call(_merge_all, merge, *group) for group in groups]
            if len(level) == 1:
                return level[0]


def find_cause(error: "RayTaskError") -> BaseException:
    """Return the error of a user, a machine or a disk that ended a task, or else the given one.

    Its message is one line, to which Ray adds the traceback of the task.
    """
    cause: BaseException | None = error.cause
    while cause is not None and not isinstance(cause, UserError | MachineError | OSError):
        cause = getattr(cause, "cause", None) or cause.__cause__
    return error if cause is None else cause


def _groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield items in groups of a size; the last may be smaller."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def _merge_all(merge: Callable[[Sequence[Any]], Any], *results: Any) -> Any:
    return merge(results)


@functools.cache
def _task(*, on_gpu: bool) -> Any:
    """Return the task of Ray that runs any function."""
    import ray

    options = {"num_cpus": 1, "num_gpus": int(on_gpu), "max_retries": TASK_RETRIES}
    return ray.remote(num_returns=2, **options)(_run_counted)


def _run_counted(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Return the result of a function in one thread, and the requests that it has sent again."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # a process that Ray reuses may have set more
    before = retry_count()
    result = function(*arguments)
    return result, retry_count() - before
