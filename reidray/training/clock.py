"""How far a training has come, where it is limited by steps and by time."""

import time
from math import inf

from reidray.training.place import Place


class Clock:
    """How much of a training is done, by steps and by time; the same on every rank."""

    def __init__(
        self, total_steps: int, *, first_step: int, deadline: float | None, place: Place
    ) -> None:
        self.total_steps = total_steps
        self.validation_seconds = 0.0
        self._deadline = deadline
        self._place = place
        self._begun = first_step / total_steps
        self._start = time.time()

    def seconds_left(self) -> float:
        """Until the deadline; endless without one."""
        return inf if self._deadline is None else self._deadline - time.time()

    def progress(self, step: int) -> float:
        """Share of the training done after `step` steps; 1 and more is the end."""
        by_steps = step / self.total_steps
        if self._deadline is None:
            return by_steps
        budget = self._deadline - 1.5 * self.validation_seconds - self._start
        elapsed = time.time() - self._start
        by_time = self._begun + (1 - self._begun) * elapsed / max(budget, 1e-9)
        return self._place.from_leader(max(by_steps, by_time))
