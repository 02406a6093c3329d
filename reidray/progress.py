"""What a person at a terminal sees of long work. Silent where nobody watches, all on stderr."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("reidray")


SLOW_SECONDS = 60.0
"""After so long without an answer a line says what is waited for."""


def describe_seconds(seconds: float) -> str:
    """Return a time as a person would say it: `90 s`, `15 minutes`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@contextmanager
def told_when_slow(what: str, *arguments: object) -> Iterator[None]:
    """Say in one line what is waited for, where the block takes a minute or more.

    Args:
        what: is done in the block, as a format of `logging`.
        arguments: of the format.
    """
    timer = threading.Timer(
        SLOW_SECONDS,
        log.warning,
        (f"{what}: no answer for %s", *arguments, describe_seconds(SLOW_SECONDS)),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Counter:
    """A count of things done, with pace and time left: a bar on a terminal, a line at the end.

    Use it as a context manager.

    Attributes:
        done: how many so far.
    """

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        self.done = 0
        self._title, self._total, self._unit = title, total, unit
        self._start = time.perf_counter()
        self._bar = self._draw() if sys.stderr.isatty() else None

    @property
    def seconds(self) -> float:
        """Since the count began."""
        return time.perf_counter() - self._start

    def advance(self, count: int) -> None:
        """Count some more."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=count, pace=self._pace())

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            log.info(
                "%s: %s %s in %.1f s (%s)",
                self._title,
                f"{self.done:,}",
                self._unit,
                self.seconds,
                self._pace(),
            )

    def _pace(self) -> str:
        return f"{self.done / max(self.seconds, 1e-9):,.0f} {self._unit}/s"

    def _draw(self) -> "Progress":
        """The bar of a terminal; what draws it is imported for a terminal alone."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        counts = "{task.completed:,}/{task.total:,} {task.fields[unit]}, {task.fields[pace]}"
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(counts),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        bar.add_task(self._title, total=self._total, unit=self._unit, pace="")
        return bar
