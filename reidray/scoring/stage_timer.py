"""Where the time of a run goes."""

import time


class StageTimer:
    """Seconds of each stage of a run.

    Attributes:
        seconds: by stage, in their order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Say which stage has just ended."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now
