"""Let Ray Train retry failures of machines, but no bugs and no mistakes of the user.

Ray Train restarts its workers after any error. A user's mistake and a bug would occur again
each time. This module imports no PyTorch, because Ray Train's controller loads it.
"""

import traceback
from typing import Any

import ray.exceptions
from ray.train import UserCallback

from reidray.errors import UserError

LOST_CONNECTION = ("gloo", "nccl", "connection", "timed out", "cuda error")
"""Words in a `RuntimeError` that PyTorch raises when another process or the hardware failed."""


class TrainingBugError(RuntimeError):
    """Signal a bug in a training process, with its traceback as the message."""


def to_bug_error(error: Exception) -> TrainingBugError | None:
    """Return the error of a bug in a training process.

    Returns:
        A `TrainingBugError` with the traceback of the error; None for a user's mistake, and for a
        failure of machines, connections or storage, after which another attempt may succeed.
    """
    if isinstance(error, UserError) or _is_transient(error):
        return None
    return TrainingBugError("".join(traceback.format_exception(error)))


def _is_transient(error: Exception) -> bool:
    """Return whether another attempt may succeed."""
    if isinstance(error, ray.exceptions.RayError | OSError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in message for word in LOST_CONNECTION)


class StopOnBug(UserCallback):  # type: ignore[misc]
    """Stop a training at once after a user's mistake or a bug in a worker.

    Ray Train raises the error of a callback as `ControllerError`, which it does not retry.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Raise the first such error of the workers."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError | TrainingBugError):
                raise error
