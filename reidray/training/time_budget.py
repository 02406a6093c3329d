"""How far a training has come, where it is limited by steps and by time."""

import math
import time
from dataclasses import dataclass, field
from math import inf

from reidray.errors import UserError
from reidray.training.distributed_context import DistributedContext

VALIDATION_SHARE = 0.5
"""Cost of an image in validation, as a share of its cost in a training step. It stands for
the first validation, until that was measured."""

VALIDATION_MARGIN = 1.2
"""By how much a validation may be slower than the one before."""

LEAST_WRAP_UP_SECONDS, MOST_WRAP_UP_SECONDS = 8.0, 60.0
USEFUL_SECONDS = 30.0
"""Training time that is asked for where a limit leaves none."""


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """A limit of a whole job: what follows the training has to fit in it too.

    Attributes:
        started: seconds since 1970 at which the job began.
        seconds: that the job may take.
        planned: seconds since 1970 at which starting the workers began. What that takes measures
            the machine: ending the workers, the report and Ray's own end take a share of it.
        wrap_up_share: this share.
        judged_after: images that one process judges once training has ended.
    """

    started: float
    seconds: float
    planned: float = field(default_factory=time.time)
    wrap_up_share: float = 0.0
    judged_after: int = 0

    @property
    def end(self) -> float:
        """Seconds since 1970 at which the job must have ended."""
        return self.started + self.seconds

    def wrap_up(self, ready: float) -> float:
        """Return the seconds that follow the training, judging apart.

        Args:
            ready: seconds since 1970 at which a training process could begin.
        """
        if not self.wrap_up_share:
            return 0.0
        measured = self.wrap_up_share * (ready - self.planned)
        return min(max(measured, LEAST_WRAP_UP_SECONDS), MOST_WRAP_UP_SECONDS)

    def check_room(self) -> None:
        """Refuse to start workers for which no time is left.

        Raises:
            UserError: says how long the start took, and which limit would do.
        """
        now = time.time()
        if now + LEAST_WRAP_UP_SECONDS >= self.end:
            raise self.nothing_trained(now, 2 * LEAST_WRAP_UP_SECONDS)

    def nothing_trained(self, ready: float, wrap_up: float) -> UserError:
        """Return the mistake of a limit that leaves no time to train."""
        start = ready - self.started
        enough = math.ceil(2 * (start + wrap_up + USEFUL_SECONDS) / 60) / 2
        return UserError(
            f"starting took {start:.0f} s, and ending takes about {wrap_up:.0f} s, of the "
            f"{self.seconds:.0f} s that --max-minutes {self.seconds / 60:.3g} allows, so that "
            f"nothing was trained: give --max-minutes {enough:g} or more"
        )


class TimeBudget:
    """Measure how much of a training is done, by steps and by time, alike on every rank.

    Args:
        total_steps: of the whole training.
        first_step: steps of earlier parts of the training.
        limit: of the job; None sets none.
        validation_images: that a validation judges.
        context: this process.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        first_step: int,
        limit: TimeLimit | None,
        validation_images: int,
        context: DistributedContext,
    ) -> None:
        self.total_steps = total_steps
        self.validation_seconds = 0.0
        self._limit, self._context = limit, context
        self._own_validation_images = validation_images / context.world_size
        self._begun = first_step / total_steps
        self._start = time.time()
        self._steps = 0
        self._step_seconds = self._image_seconds = 0.0

    def seconds_left(self) -> float:
        """Return the seconds left to train in; endless without a limit."""
        return inf if self._limit is None else self._limit.end - self._reserve() - time.time()

    def count_step(self, seconds: float, images: int) -> None:
        """Learn what a step costs, of which this process computes `images`."""
        self._steps += 1
        if self._steps == 1:  # the first step of a process is slow and tells nothing
            return
        share = max(1 / (self._steps - 1), 0.1)  # a mean that forgets the earliest
        self._step_seconds += share * (seconds - self._step_seconds)
        self._image_seconds += share * (seconds / max(images, 1) - self._image_seconds)

    def progress(self, step: int) -> float:
        """Return the share of the training done after `step` steps; 1 and more is the end."""
        by_steps = step / self.total_steps
        if self._limit is None:
            return by_steps
        budget = self._limit.end - self._reserve() - self._start
        elapsed = time.time() - self._start
        by_time = 1.0 if budget <= 0 else self._begun + (1 - self._begun) * elapsed / budget
        return self._context.broadcast(max(by_steps, by_time))

    def nothing_trained(self) -> UserError:
        """Return the mistake of a limit that leaves no time for a step."""
        if self._limit is None:
            raise ValueError("there is no limit")
        return self._limit.nothing_trained(self._start, self._reserve())

    def _reserve(self) -> float:
        """Seconds for a step, a validation, and what follows the training."""
        limit = self._limit
        if limit is None:
            return 0.0
        estimated = VALIDATION_SHARE * self._image_seconds * self._own_validation_images
        validation = VALIDATION_MARGIN * self.validation_seconds or estimated
        each = validation / max(self._own_validation_images, 1)
        judging = each * limit.judged_after
        return limit.wrap_up(self._start) + self._step_seconds + validation + judging
