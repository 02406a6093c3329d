"""Measure how long each stage of a run takes."""

import time


class StageTimer:
    """Measure the seconds of stages that follow each other.

    Attributes:
        seconds: seconds of each stage that has ended, in the order of the stages.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_stage(self, stage: str) -> None:
        """Record that a stage ends, and that the next one begins."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now
