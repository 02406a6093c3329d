"""What a person at a terminal sees of long work. Silent where nobody watches, all on stderr."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("reidray")


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
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(
                "{task.completed:,}/{task.total:,} {task.fields[unit]}, {task.fields[pace]}"
            ),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._row = self._bar.add_task(title, total=total, unit=unit, pace="")

    @property
    def seconds(self) -> float:
        """Since the count began."""
        return time.perf_counter() - self._start

    def advance(self, count: int) -> None:
        """Count some more."""
        self.done += count
        self._bar.update(self._row, advance=count, pace=self._pace())

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
