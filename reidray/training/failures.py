"""Choose which failures Ray Train retries: those of machines, not of programs.

Ray Train starts its workers again whatever they raised. A mistake of the user's and a bug would
happen again each time. This module imports no PyTorch: Ray Train's controller loads it.
"""

import traceback
from typing import Any

import ray.exceptions
from ray.train import UserCallback

from reidray.errors import UserError

LOST_CONNECTION = ("gloo", "nccl", "connection", "timed out", "cuda error")
"""Words of a `RuntimeError` that PyTorch raises where another process or the hardware failed."""


class TrainingBugError(RuntimeError):
    """An error of the program in a training process; the message is its traceback there."""


def bug_behind(error: Exception) -> TrainingBugError | None:
    """Return the bug behind what a training process met.

    Returns:
        A `TrainingBugError` with the traceback of the error; None where the error is the user's
        mistake, or where machines, connections or storage failed and another attempt may succeed.
    """
    if isinstance(error, UserError) or _may_pass(error):
        return None
    return TrainingBugError("".join(traceback.format_exception(error)))


def _may_pass(error: Exception) -> bool:
    """Tell whether another attempt may succeed."""
    if isinstance(error, ray.exceptions.RayError | OSError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in said for word in LOST_CONNECTION)


class EndAtMistakes(UserCallback):  # type: ignore[misc]
    """Ends a training at once where a worker met a mistake of the user's or a bug.

    Ray Train raises what a callback raises as `ControllerError`, which it does not repeat.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Raise the first such error of the workers."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError | TrainingBugError):
                raise error
