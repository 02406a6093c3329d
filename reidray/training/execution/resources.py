"""Describe the resources of each process of a training, and check the settings that need GPUs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.terminal import count_noun

Result = TypeVar("Result")

SMALL_SHARE = 16
"""Images of a worker's share of a batch from which it estimates batch statistics well enough."""


@dataclass(frozen=True)
class Resources:
    """Hold the resources of each training process.

    Attributes:
        use_gpu: whether the process has a GPU.
        cpus: number of CPUs that the process computes on.
        share: share of these CPUs that Ray reserves for the process; other tasks may use the rest.
    """

    use_gpu: bool
    cpus: int
    share: float = 1.0

    @property
    def reserved(self) -> dict[str, float]:
        """Return the resources that Ray reserves for the process."""
        return {"CPU": self.cpus * self.share} | ({"GPU": 1} if self.use_gpu else {})

    def describe(self, count: int) -> str:
        """Return the resources of `count` workers, such as `2 workers x 1 GPU`."""
        each = "1 GPU" if self.use_gpu else f"{self.cpus} CPU"
        return f"{count_noun(count, 'worker')} x {each}"

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a function where a training process would run, and return its result."""
        return function(*arguments)


def check_gpu_settings(config: TrainingConfig, resources: Resources) -> None:
    """Check that the workers have GPUs where a setting needs them.

    Raises:
        UserError: `auto_batch` or `sync_batchnorm=yes` is set, and the workers train on CPUs.
    """
    if resources.use_gpu:
        return
    if config.auto_batch:
        raise UserError(
            "`auto_batch` fills the memory of a GPU and the workers train on CPUs: give a number "
            f"in `{config.BATCH_FIELD}`"
        )
    if config.sync_batchnorm == "yes":
        raise UserError(
            "`sync_batchnorm=yes` needs GPUs and the workers train on CPUs: leave it at auto"
        )


def syncs_batch_norm(config: TrainingConfig, resources: Resources) -> bool:
    """Return whether workers compute the statistics of batch normalisation together."""
    share = config.images_per_batch / config.workers
    is_wanted = config.sync_batchnorm == "yes" or (
        config.sync_batchnorm == "auto" and share < SMALL_SHARE
    )
    return is_wanted and resources.use_gpu and config.workers > 1
