"""Choose the engine that embeds the images of a job: this process, or Ray actors."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, Self

import torch

from reidray.inference.image_batches import BatchPredictions, Digests, ImageBatch
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.local_engine import embed_in_process
from reidray.inference.runs.run_timing import StageTimer
from reidray.models import LoadedModel

MAX_ON_CPU = 512
"""Largest number of images that the CPU of this process embeds before Ray would have started."""

MAX_ON_GPU = 100_000
"""Largest number of images that a GPU of this process embeds. In the 12 seconds that Ray takes to
start and stop on a machine with a GPU, the GPU embeds about this number. A larger run gains from
several GPUs, and from actors that Ray starts again."""


class EngineOptions(Protocol):
    """Describe the fields of a job's configuration that decide where it embeds."""

    @property
    def num_workers(self) -> int | None:
        """Return the number of embedding processes; None for as many as suit the machine."""

    @property
    def use_gpu(self) -> Literal["auto", "yes", "no"]:
        """Return whether GPUs embed; "auto" where the cluster has them."""

    @property
    def stall_timeout(self) -> float:
        """Return the minutes without an answer after which a process is replaced."""


class EmbedBatches(Protocol):
    """Describe the functions that embed."""

    def __call__(
        self, model: LoadedModel, batches: Sequence[ImageBatch], known: Digests | None
    ) -> Iterator[list[BatchPredictions]]:
        """Yield the predictions of a model for batches, but for images of known digests."""
        ...


@dataclass(frozen=True)
class EmbeddingEngine:
    """Hold an engine that embeds.

    Attributes:
        num_workers: number of Ray actors; 0 where this process embeds.
        embed: yields the predictions for batches to this process.
        embed_work: embeds a piece of work whose results the workers write, and yields their
            receipts; None where the predictions come to this process.
    """

    num_workers: int
    embed: EmbedBatches
    embed_work: Callable[..., Iterator[Any]] | None = None


class RayConnection:
    """Connect to Ray on the first use, and measure its start and stop.

    Use it as a context manager, which closes the connection.

    Args:
        session: the connection, which has not been opened; None for that of this process, or
            for one like that of a job without `--ray-address` where this process has none.
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.
        timer: records the stages `ray start` and `ray stop`.
    """

    def __init__(
        self, session: AbstractContextManager[None] | None, timer: StageTimer, *, starts_ray: bool
    ) -> None:
        if session is None and not _is_connected():
            from reidray.ray_runtime import ray_session, starts_local_ray  # slow to import

            session, starts_ray = ray_session(), starts_local_ray(None)
        self.starts_ray = starts_ray
        self._session = session
        self._timer = timer
        self._opened: ExitStack | None = None

    def open(self) -> None:
        """Connect to Ray, if that has not happened yet."""
        if self._opened is None:
            self._opened = ExitStack()
            self._opened.enter_context(self._session or nullcontext())
            self._timer.end_stage("ray start")

    def join(self) -> None:
        """Connect to a running cluster, if the session joins one."""
        if self._session is not None and not self.starts_ray:
            self.open()

    def close(self) -> None:
        """Disconnect from Ray, or stop it, if it is connected."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()
            self._timer.end_stage("ray stop")

    @property
    def joins_cluster(self) -> bool:
        """Return whether the connection is open, to a cluster that goes on after the job."""
        return self._opened is not None and not self.starts_ray

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """Close the connection where a block raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._opened is not None:
            self._opened.__exit__(*error)


def _is_connected() -> bool:
    """Return whether this process is connected to Ray, which it may not have imported."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def embeds_on_gpu(config: EngineOptions, connection: RayConnection) -> bool:
    """Return whether GPUs embed the images of a job.

    With `use_gpu=auto`, the GPUs of this machine decide where Ray would be started here. Otherwise
    those of the cluster decide, and the function connects to it.
    """
    if config.use_gpu != "auto":
        return config.use_gpu == "yes"
    if connection.starts_ray:
        return torch.cuda.is_available()
    connection.open()
    from reidray.cluster_resources import cluster_gpus  # imports Ray

    return cluster_gpus() > 0


def choose_engine(
    num_images: int,
    config: EngineOptions,
    settings: InferenceSettings,
    connection: RayConnection,
    *,
    on_gpu: bool,
    by_ray_data: bool = False,
) -> EmbeddingEngine:
    """Return the engine that embeds some images soonest: this process, or Ray actors.

    A GPU gives other last digits than a CPU. So the kind of device never depends on the number of
    images. Ray is started for many images, or where the number of actors is given.

    Args:
        num_images: number of images to embed.
        config: the configuration of the job.
        settings: precision, and use of mirror images.
        connection: connection to Ray, which is opened only where Ray embeds.
        on_gpu: result of `embeds_on_gpu`.
        by_ray_data: whether Ray Data embeds, so that `embed_work` is set.

    Raises:
        UserError: the cluster cannot place the actors.
    """
    device = _device_here(num_images, config, connection, on_gpu=on_gpu)
    if device is not None and not by_ray_data:
        return EmbeddingEngine(0, partial(embed_in_process, settings=settings, device=device))
    connection.open()
    from reidray.inference.ray_engine import embed_with_ray, plan_pool  # imports Ray

    pool = plan_pool(config.num_workers, config.use_gpu)
    arguments: dict[str, Any] = {
        "settings": settings,
        "pool": pool,
        "stall_minutes": config.stall_timeout,
    }
    embed_work = None
    if by_ray_data:
        from reidray.inference.distributed.ray_data_engine import embed_with_ray_data

        embed_work = partial(embed_with_ray_data, **arguments)
    return EmbeddingEngine(pool.num_actors, partial(embed_with_ray, **arguments), embed_work)


def _device_here(
    num_images: int, config: EngineOptions, connection: RayConnection, *, on_gpu: bool
) -> str | None:
    """Return the device of this process that embeds sooner than Ray does; None if there is none."""
    if config.num_workers is not None:
        return None
    if on_gpu:
        has_gpu = connection.starts_ray and torch.cuda.is_available()
        return "cuda" if has_gpu and num_images <= MAX_ON_GPU else None
    is_here = connection.starts_ray or config.use_gpu == "no"
    return "cpu" if is_here and num_images <= MAX_ON_CPU else None
