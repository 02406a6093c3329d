"""Measure the cost of a unit of work repeatedly, and round the numbers of a plan."""

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Self

DIGITS = 2
"""Digits of the numbers of a plan, which is no more certain than that."""

TAIL = 0.1
"""Share of the measurements that are faster than `low`, or slower than `high`."""

LEAST_SHARE = 0.25
"""Size of the smallest measurement that counts for the spread, as a share of the largest."""


@dataclass(frozen=True)
class Cost:
    """Hold the seconds that a unit of work takes, such as an image.

    Attributes:
        seconds: mean of all measurements, weighted by their units.
        low: that of a measurement faster than nine tenths of them, or of the fastest of a few.
        high: that of a measurement slower than nine tenths of them, or of the slowest of a few.
    """

    seconds: float
    low: float
    high: float

    @classmethod
    def of(cls, measurements: Iterable[tuple[float, float]]) -> Self:
        """Return the cost in some measurements, each of the seconds of a number of units.

        >>> Cost.of([(2.0, 10), (4.0, 10)])
        Cost(seconds=0.3, low=0.2, high=0.4)

        Args:
            measurements: seconds and units of one measurement or more. Measurements that are much
                smaller than the largest do not count for `low` and `high`.
        """
        pairs = [pair for pair in measurements if pair[1]]
        largest = max(units for _, units in pairs)
        each = sorted(seconds / units for seconds, units in pairs if units >= LEAST_SHARE * largest)
        last = len(each) - 1
        total = sum(seconds for seconds, _ in pairs) / sum(units for _, units in pairs)
        return cls(total, each[floor(TAIL * last)], each[ceil((1 - TAIL) * last)])

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of two pieces of work, one after the other."""
        return Cost(self.seconds + other.seconds, self.low + other.low, self.high + other.high)

    def __mul__(self, units: float) -> "Cost":
        """Return the cost of a number of units."""
        return Cost(self.seconds * units, self.low * units, self.high * units)

    def at_least(self, other: "Cost") -> "Cost":
        """Return the cost of two pieces of work at the same time: the larger one."""
        return Cost(
            max(self.seconds, other.seconds), max(self.low, other.low), max(self.high, other.high)
        )

    def to_minutes(self) -> dict[str, float]:
        """Return the minutes, with the least and the most that the measurements allow."""
        return {
            "minutes": rounded(self.seconds / 60),
            "low": rounded(self.low / 60),
            "high": rounded(self.high / 60),
        }

    def to_rate(self) -> dict[str, float]:
        """Return the units per second, with the least and the most of the measurements."""
        return {
            "per_second": rounded(1 / self.seconds),
            "low": rounded(1 / self.high),
            "high": rounded(1 / self.low),
        }


FREE = Cost(0.0, 0.0, 0.0)
"""The cost of nothing."""


def rounded(value: float) -> float:
    """Return a number with `DIGITS` digits.

    >>> rounded(1234.5), rounded(0.01234), rounded(0)
    (1200.0, 0.012, 0.0)
    """
    if not value:
        return 0.0
    return float(round(value, DIGITS - 1 - floor(log10(abs(value)))))


def format_number(value: float) -> str:
    """Return a number in a table, with `DIGITS` digits.

    >>> format_number(1234.5), format_number(0.01234), format_number(1.0)
    ('1,200', '0.012', '1')
    """
    return f"{rounded(value):,.6f}".rstrip("0").rstrip(".")


def format_range(values: Mapping[str, float]) -> str:
    """Return the range of a rate, or of minutes, in a table.

    >>> format_range({"low": 0.5, "high": 12})
    '0.5-12'
    """
    return f"{format_number(values['low'])}-{format_number(values['high'])}"


def peak_memory() -> int:
    """Return the largest number of bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
