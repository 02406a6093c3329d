"""Time work beside bare PyTorch, and collect rows and checks within a limit of time."""

import json
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Reach:
    """State what a row must reach.

    Attributes:
        kind: whether the figure must be at least or at most `limit`.
        limit: the limit.
        unit: "x" limits the ratio of ours to bare, any other unit limits our own figure.
    """

    kind: Literal["at least", "at most"]
    limit: float
    unit: str = "x"

    def __str__(self):
        return f"{self.kind} {self.limit:,.6g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold a figure of reidray beside the one of bare PyTorch.

    Attributes:
        name: the work.
        unit: "images/s" or "s".
        ours: the figure of reidray.
        bare: the figure of bare PyTorch; None where nothing bare does this work.
        reach: what the row must reach; None where nothing was promised.
        details: other figures of the same run.
    """

    name: str
    unit: str
    ours: float
    bare: float | None = None
    reach: Reach | None = None
    details: dict = field(default_factory=dict)

    @property
    def ratio(self):
        """Return ours divided by bare."""
        return None if self.bare is None else self.ours / self.bare

    @property
    def reached(self):
        """Return whether the row reaches what it must, None where nothing was promised."""
        if self.reach is None:
            return None
        value = self.ratio if self.reach.unit == "x" else self.ours
        if self.reach.kind == "at least":
            return value >= self.reach.limit
        return value <= self.reach.limit

    def to_json(self):
        """Return the row as a JSON object."""
        values = {key: value for key, value in vars(self).items() if key != "reach"}
        reach = None if self.reach is None else str(self.reach)
        return values | {"ratio": self.ratio, "reach": reach, "reached": self.reached}


class Suite:
    """Run measurements and checks one after the other, and print each result at once.

    A failure is printed in one line, and the others go on. What would exceed the limit of time is
    dropped and named.

    Args:
        limit_seconds: seconds of the whole run.
    """

    def __init__(self, limit_seconds):
        self._start, self._limit = time.perf_counter(), limit_seconds
        self.rows, self.checks, self.failed, self.dropped = [], {}, {}, []

    @property
    def seconds(self):
        """Return the seconds since the start."""
        return time.perf_counter() - self._start

    def measure(self, name, expected_seconds, action: Callable[[], Row | Iterable[Row]]):
        """Collect the rows of an action, which are printed as they come."""
        found = self._attempt(name, expected_seconds, lambda: self._collect(action()))
        if found is not None:
            print(f"  ({name}: {found:.0f} s)", flush=True)

    def check(self, name, expected_seconds, action: Callable[[], str]):
        """Record that an action finds what it expects, with the line that it returns."""

        start = time.perf_counter()

        def run():
            self.checks[name] = action()
            seconds = time.perf_counter() - start
            print(f"check {name}: {self.checks[name]} ({seconds:.1f} s)", flush=True)

        self._attempt(name, expected_seconds, run)

    def _collect(self, rows):
        for row in [rows] if isinstance(rows, Row) else rows:
            self.rows.append(row)
            print(format_row(row), flush=True)

    def _attempt(self, name, expected_seconds, action):
        """Run an action, and return its seconds, or None where it is dropped or fails."""
        if self.seconds + expected_seconds > self._limit:
            self.dropped.append(name)
            print(f"dropped for lack of time: {name}", flush=True)
            return None
        start = time.perf_counter()
        try:
            action()
        except Exception as error:
            self.failed[name] = describe_error(error)
            print(f"FAILED {name}: {self.failed[name]}", flush=True)
            return None
        finally:
            # After some errors of a kernel every use of CUDA fails in this process.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
        return time.perf_counter() - start

    def print_summary(self, facts):
        """Print the table of all rows, and one JSON line with everything."""
        print("\n" + format_table(self.rows))
        for title, names in (("dropped", self.dropped), ("failed", list(self.failed))):
            if names:
                print(f"{title}: {', '.join(names)}")
        summary = {
            **facts,
            "seconds": round(self.seconds, 1),
            "rows": [row.to_json() for row in self.rows],
            "checks": self.checks,
            "failed": self.failed,
            "dropped": self.dropped,
        }
        print(json.dumps(summary, default=float), flush=True)


def describe_error(error):
    """Return an error in one line, with the last place in this project that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PROJECT / "reidray")]
    place = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


def default_cudnn(*, benchmark=False):
    """Return a context in which cuDNN is set as in a new process, whatever ran before.

    Args:
        benchmark: whether cuDNN tries its algorithms for each new shape.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=True)


def synchronize(device):
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def least_seconds(device, *actions, runs=5):
    """Return the least seconds of each action; the actions take turns, once before the clock."""
    seconds = [[] for _ in actions]
    for run in range(runs + 1):
        for action, taken in zip(actions, seconds, strict=True):
            synchronize(device)
            start = time.perf_counter()
            action()
            synchronize(device)
            if run:
                taken.append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]


def format_row(row):
    """Return a row as a line."""
    return " | ".join(cells_of(row))


def format_table(rows):
    """Return the rows as a table with aligned columns."""
    header = ("work", "reidray", "bare", "ratio", "reach", "reached", "more")
    lines = [header, *map(cells_of, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def cells_of(row):
    """Return the cells of a row."""
    verdict = {True: "yes", False: "NO", None: "-"}[row.reached]
    more = ", ".join(f"{key} {_number(value)}" for key, value in row.details.items())
    return (
        row.name,
        f"{_number(row.ours)} {row.unit}",
        "-" if row.bare is None else f"{_number(row.bare)} {row.unit}",
        "-" if row.ratio is None else f"{row.ratio:.3g}",
        "-" if row.reach is None else str(row.reach),
        verdict,
        more,
    )


def _number(value):
    if not isinstance(value, float | int) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
