"""Measure how much of a training is done, by its steps and by its time limit."""

import math
import time
from dataclasses import dataclass, field
from math import inf

from reidray.errors import UserError
from reidray.training.distributed_context import DistributedContext
from reidray.training.steps.epoch_progress import StepWindow

VALIDATION_SHARE = 0.5
"""Cost of an image in validation, as a share of its cost in a training step. The first validation
is estimated by it; later ones by the measured cost."""

VALIDATION_MARGIN = 1.2
"""Factor by which a validation may be slower than the one before."""

EXCHANGE_SECONDS = 1.0
"""Interval at which the ranks agree on the progress within an epoch. Each exchange waits for the
device."""

MIN_WRAP_UP_SECONDS, MAX_WRAP_UP_SECONDS = 8.0, 60.0
USEFUL_SECONDS = 30.0
"""Training time of the limit that an error message suggests."""


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """Limit the time of a whole job, including the work after the training.

    Attributes:
        started: seconds since 1970 at which the job began.
        seconds: seconds that the job may take.
        workers_started: seconds since 1970 at which the job began to start the workers. The
            duration of the start estimates the speed of the machine.
        wrap_up_share: time to end the workers, to write the report and to stop Ray, as a share of
            the duration of the start.
        images_after_training: number of images that one process evaluates after the training.
    """

    started: float
    seconds: float
    workers_started: float = field(default_factory=time.time)
    wrap_up_share: float = 0.0
    images_after_training: int = 0

    @property
    def end(self) -> float:
        """Return the seconds since 1970 at which the job must have ended."""
        return self.started + self.seconds

    def wrap_up_seconds(self, ready: float) -> float:
        """Return the seconds that follow the training, without the evaluation of images.

        Args:
            ready: seconds since 1970 at which the training process was ready.
        """
        if not self.wrap_up_share:
            return 0.0
        measured = self.wrap_up_share * (ready - self.workers_started)
        return min(max(measured, MIN_WRAP_UP_SECONDS), MAX_WRAP_UP_SECONDS)

    def check_room(self) -> None:
        """Check that the limit leaves time to start workers.

        Raises:
            UserError: the limit leaves no time; the message gives the duration of the start and
                a sufficient limit.
        """
        now = time.time()
        if now + MIN_WRAP_UP_SECONDS >= self.end:
            raise self.too_short_error(now, 2 * MIN_WRAP_UP_SECONDS)

    def too_short_error(self, ready: float, wrap_up: float) -> UserError:
        """Return the error of a limit that leaves no time to train.

        Args:
            ready: seconds since 1970 at which the training could begin.
            wrap_up: seconds that follow the training.
        """
        start = ready - self.started
        enough = math.ceil(2 * (start + wrap_up + USEFUL_SECONDS) / 60) / 2
        return UserError(
            f"starting took {start:.0f} s, and ending takes about {wrap_up:.0f} s, of the "
            f"{self.seconds:.0f} s that `max_minutes={self.seconds / 60:.3g}` allows, so that "
            f"nothing was trained: give `max_minutes={enough:g}` or more"
        )


class TimeBudget:
    """Measure the share of a training that is done, equally on every rank.

    Args:
        total_steps: number of steps of the whole training.
        first_step: number of steps that a checkpoint holds.
        done: share of the training that was done at the checkpoint.
        limit: time limit of the job; None for no limit.
        validation_images: number of images in a validation.
        context: this training process.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        first_step: int,
        done: float = 0.0,
        limit: TimeLimit | None,
        validation_images: int,
        context: DistributedContext,
    ) -> None:
        self.total_steps = total_steps
        self.validation_seconds = 0.0
        self._limit, self._context = limit, context
        self._own_validation_images = validation_images / context.world_size
        self._initial_progress = max(first_step / total_steps, done)
        self._ready = self._start = time.time()
        self._windows = 0
        self._step_seconds = self._image_seconds = 0.0
        self._agreed_progress, self._next_exchange = 0.0, first_step

    def seconds_left(self) -> float:
        """Return the seconds left to train; infinity without a limit."""
        return inf if self._limit is None else self._limit.end - self._reserve() - time.time()

    def count_steps(self, window: StepWindow) -> None:
        """Record the duration of steps of this process, without a first one that is not typical."""
        self._windows += 1
        share = max(1 / self._windows, 0.1)  # a moving average
        seconds = window.seconds
        self._step_seconds += share * (seconds / window.steps - self._step_seconds)
        self._image_seconds += share * (seconds / max(window.images, 1) - self._image_seconds)

    def exclude_warm_up(self, done: float) -> None:
        """Let the progress by time go on from now, after a step that compiled the network.

        Args:
            done: share of the training that was done before that step.
        """
        self._initial_progress, self._start = done, time.time()

    def progress(self, step: int) -> float:
        """Return the share of the training that is done after `step` steps; 1 or more ends it.

        All ranks call it at the same steps, and get the progress of rank 0.
        """
        by_steps = step / self.total_steps
        if self._limit is None:
            return by_steps
        budget = self._limit.end - self._reserve() - self._start
        elapsed = time.time() - self._start
        by_time = (
            1.0
            if budget <= 0
            else self._initial_progress + (1 - self._initial_progress) * elapsed / budget
        )
        self._agreed_progress, steps = self._context.broadcast_values(
            max(by_steps, by_time), self._steps_to_exchange()
        )
        self._next_exchange = step + int(steps)
        return self._agreed_progress

    def step_progress(self, step: int) -> float:
        """Return `progress` within an epoch, which several ranks exchange once a second.

        Rank 0 decides the step of the next exchange, so that all ranks exchange at the same steps.
        """
        if self._context.world_size == 1 or step >= self._next_exchange:
            return self.progress(step)
        return max(step / self.total_steps, self._agreed_progress)

    def _steps_to_exchange(self) -> int:
        """Return the number of steps until the next exchange: those of a second, or fewer."""
        if not self._step_seconds:
            return 1
        return max(1, int(min(EXCHANGE_SECONDS, self.seconds_left()) / self._step_seconds))

    def too_short_error(self) -> UserError:
        """Return the error of a limit that leaves no time for a step."""
        if self._limit is None:
            raise ValueError("there is no limit")
        return self._limit.too_short_error(self._ready, self._reserve())

    def _reserve(self) -> float:
        """Return the seconds for one more step, a validation, and what follows the training."""
        limit = self._limit
        if limit is None:
            return 0.0
        estimated = VALIDATION_SHARE * self._image_seconds * self._own_validation_images
        validation = VALIDATION_MARGIN * self.validation_seconds or estimated
        seconds_per_image = validation / max(self._own_validation_images, 1)
        evaluation = seconds_per_image * limit.images_after_training
        return limit.wrap_up_seconds(self._ready) + self._step_seconds + validation + evaluation
