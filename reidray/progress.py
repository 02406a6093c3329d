"""Show long work on stderr: at once what is done, then how far it is.

A terminal shows a line that moves and is gone at the end. A log file gets a line whenever nothing
else was said for some seconds, without escape codes.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reidray.terminal import printable

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("reidray")

EVERY_SECONDS = 4.0
"""So long nothing is said in a log file, at most."""

SHOW_AFTER_SECONDS = 2.0
"""Seconds before a check of what a user gave is told of: a mistake found sooner is told alone."""

TICK_SECONDS = 0.25


SLOW_SECONDS = 60.0
"""After so long without an answer a line says what is waited for."""


def describe_seconds(seconds: float) -> str:
    """Return a time as a person would say it: `90 s`, `15 minutes`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@contextmanager
def warn_when_slow(what: str, *arguments: object) -> Iterator[None]:
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


class _LastLine(logging.Filter):
    """Notes when the last line was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.time = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        """Let every line pass."""
        self.time = time.monotonic()
        return True


_last_line = _LastLine()
log.addFilter(_last_line)

_under_way: list["Activity"] = []
"""The activities that have begun and not ended; the last is shown."""


class Activity:
    """Work that takes a while. Use it as a context manager.

    Args:
        title: what is done.
        delay: seconds before it is said. What ends in a user's mistake sooner says that alone.
    """

    def __init__(self, title: str, *, delay: float = 0.0) -> None:
        self._title, self._delay = title, delay
        self._start = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_telling, daemon=True)
        self._bar: Progress | None = None

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._start

    def describe(self) -> str:
        """Return a line about how far it is."""
        return f"{self._title}, {self.seconds:.0f} s"

    def done_share(self) -> float | None:
        """Return the share that is done, in 0..1, or None where that is not known."""
        return None

    def summary(self) -> str | None:
        """Return a line for the end, or None."""
        return None

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        if not self._delay:
            log.info("%s", self._title)
        if _under_way:
            _under_way[-1]._hide()
        _under_way.append(self)
        self._show()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._hide()
        _under_way.remove(self)
        if kind is None and (line := self.summary()):
            log.info("%s", line)
        if _under_way:
            _under_way[-1]._show()

    def _keep_telling(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            if _under_way[-1:] != [self]:
                continue
            if self._bar is not None:
                self._bar.update(
                    self._bar.task_ids[0],
                    description=printable(self.describe()),
                    completed=self.done_share(),
                )
            elif self._silent_seconds() >= (self._delay or EVERY_SECONDS):
                self._delay = 0.0
                log.info("%s", self.describe())

    def _silent_seconds(self) -> float:
        return min(time.monotonic() - _last_line.time, self.seconds)

    def _show(self) -> None:
        """Begin the moving line of a terminal; what draws it is imported for a terminal alone."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        share = self.done_share()
        self._bar = Progress(
            SpinnerColumn() if share is None else BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.add_task(printable(self.describe()), total=1.0)
        before = sys.stderr
        self._bar.start()
        _redirect_logs(before)

    def _hide(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            before = sys.stderr
            bar.stop()
            _redirect_logs(before)


def _redirect_logs(before: object) -> None:
    """Send what was logged to `before` to what is stderr now: a moving line stays below it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)


class Counter(Activity):
    """A count of things done, with pace and time left.

    Attributes:
        done: how many so far.
    """

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        super().__init__(f"{title} {total:,} {unit}")
        self.done = 0
        self._verb, self._total, self._unit = title, total, unit

    def advance(self, count: int) -> None:
        """Count some more."""
        self.done += count

    def describe(self) -> str:
        """Return how many are done, the pace, and the time left."""
        left = ""
        if 0 < self.done < self._total:
            seconds = self.seconds / self.done * (self._total - self.done)
            left = f", {format_duration(seconds)} left"
        counts = f"{self.done:,} of {self._total:,} {self._unit}"
        return f"{self._verb} {counts}, {self._pace()}{left}"

    def done_share(self) -> float:
        """Return the share that is done."""
        return self.done / max(self._total, 1)

    def summary(self) -> str:
        """Return the count, the seconds and the pace."""
        counts = f"{self.done:,} {self._unit} in {self.seconds:.1f} s"
        return f"{self._verb}: {counts} ({self._pace()})"

    def _pace(self) -> str:
        return f"{self.done / max(self.seconds, 1e-9):,.0f} {self._unit}/s"


class Stages:
    """Stages of a job that follow each other. Use it as a context manager."""

    def __init__(self) -> None:
        self._now = ExitStack()

    def begin(self, title: str, *, delay: float = 0.0) -> None:
        """End the stage before, and say what is done next, `delay` seconds later."""
        self._now.close()
        self._now.enter_context(Activity(title, delay=delay))

    def end(self) -> None:
        """End the stage; what follows tells of itself."""
        self._now.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._now.close()


def format_duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, `0:01:30`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
