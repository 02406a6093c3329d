"""Show the progress of long work on stderr.

A terminal shows a moving line that disappears at the end. A log file gets a line, without escape
codes, whenever nothing else was logged for some seconds.
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

LOG_INTERVAL_SECONDS = 4.0
"""The longest time without a line in a log file."""

SHOW_AFTER_SECONDS = 2.0
"""Seconds before a check of the inputs is shown, so that an early error is the only line."""

TICK_SECONDS = 0.25

SLOW_SECONDS = 60.0
"""Seconds after which `warn_when_slow` warns."""


def describe_seconds(seconds: float) -> str:
    """Return a time for a message, in seconds or minutes: `90 s`, `15 minutes`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


@contextmanager
def warn_when_slow(what: str, *arguments: object) -> Iterator[None]:
    """Warn in one line if the block takes a minute or more.

    Args:
        what: description of the block's work, as a format of `logging`.
        arguments: arguments of the format.
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
    """Record the time of the last logged line."""

    def __init__(self) -> None:
        super().__init__()
        self.time = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        """Record the time, and let the line pass."""
        self.time = time.monotonic()
        return True


_last_line = _LastLine()
log.addFilter(_last_line)

_active: list["Activity"] = []
"""Activities that run; the last one is shown."""


class Activity:
    """Show that work is under way. Use it as a context manager.

    Args:
        title: description of the work.
        delay: seconds before it is shown, so that an early error is the only line.
    """

    def __init__(self, title: str, *, delay: float = 0.0) -> None:
        self._title, self._delay = title, delay
        self._start = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._bar: Progress | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds since the work began."""
        return time.perf_counter() - self._start

    def describe(self) -> str:
        """Return a line about the progress."""
        return f"{self._title}, {self.seconds:.0f} s"

    def done_share(self) -> float | None:
        """Return the share that is done, in 0..1, or None if it is unknown."""
        return None

    def summary(self) -> str | None:
        """Return a line for the end, or None."""
        return None

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        if not self._delay:
            log.info("%s", self._title)
        if _active:
            _active[-1]._hide()
        _active.append(self)
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
        _active.remove(self)
        if kind is None and (line := self.summary()):
            log.info("%s", line)
        if _active:
            _active[-1]._show()

    def _refresh(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            if _active[-1:] != [self]:
                continue
            if self._bar is not None:
                self._bar.update(
                    self._bar.task_ids[0],
                    description=printable(self.describe()),
                    completed=self.done_share(),
                )
            elif self._silent_seconds() >= (self._delay or LOG_INTERVAL_SECONDS):
                self._delay = 0.0
                log.info("%s", self.describe())

    def _silent_seconds(self) -> float:
        return min(time.monotonic() - _last_line.time, self.seconds)

    def _show(self) -> None:
        """Start the moving line of a terminal, and import Rich only for a terminal."""
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
    """Redirect logging from `before` to the present stderr, so that a moving line stays below."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)


class Counter(Activity):
    """Show a count with its rate and the time left.

    Args:
        title: verb of the work, such as `decoding`.
        total: count at the end.
        unit: plural of the counted things.

    Attributes:
        done: count so far.
    """

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        super().__init__(f"{title} {total:,} {unit}")
        self.done = 0
        self._verb, self._total, self._unit = title, total, unit

    def advance(self, count: int) -> None:
        """Add to the count."""
        self.done += count

    def describe(self) -> str:
        """Return the count, the rate and the time left."""
        left = ""
        if 0 < self.done < self._total:
            seconds = self.seconds / self.done * (self._total - self.done)
            left = f", {format_duration(seconds)} left"
        counts = f"{self.done:,} of {self._total:,} {self._unit}"
        return f"{self._verb} {counts}, {self._rate()}{left}"

    def done_share(self) -> float:
        """Return the share that is done, in 0..1."""
        return self.done / max(self._total, 1)

    def summary(self) -> str:
        """Return the count, the seconds and the rate."""
        counts = f"{self.done:,} {self._unit} in {self.seconds:.1f} s"
        return f"{self._verb}: {counts} ({self._rate()})"

    def _rate(self) -> str:
        return f"{self.done / max(self.seconds, 1e-9):,.0f} {self._unit}/s"


class Stages:
    """Show the stages of a job one after the other. Use it as a context manager."""

    def __init__(self) -> None:
        self._now = ExitStack()

    def begin(self, title: str, *, delay: float = 0.0) -> None:
        """End the previous stage, and show the next one after `delay` seconds."""
        self._now.close()
        self._now.enter_context(Activity(title, delay=delay))

    def end(self) -> None:
        """End the last stage."""
        self._now.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._now.close()


def format_duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, `0:01:30`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
