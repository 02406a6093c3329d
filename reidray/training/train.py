"""Train a network with one call. This module imports neither PyTorch nor Ray at its top."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from reidray.config import TrainingConfig
from reidray.config.data_sources import join_values
from reidray.config.sections.durations import DEFAULT_WAIT
from reidray.config.sources import Sources
from reidray.data.layouts import check_layout
from reidray.errors import UserError
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.ray_runtime import WORKER_SETTINGS, ray_session, uses_ray
from reidray.storage.input_checks import check_data, check_weights
from reidray.storage.output_checks import check_disjoint
from reidray.training.runs.run_directory import RunDirectory, TrainingRun, lock_run

if TYPE_CHECKING:
    from reidray.training.execution.engine import TrainingEngine


def train(
    config: TrainingConfig,
    *,
    resume: str | None = None,
    sources: Sources | None = None,
    ray_address: str | None = None,
    verbose: bool = False,
    wait_for_resources: str = DEFAULT_WAIT,
    started: float | None = None,
    on_start: Callable[[RunDirectory], None] | None = None,
) -> TrainingRun:
    """Train a network on a Ray cluster or in this process, and write a run directory.

    The function uses the Ray cluster that the process is connected to. Without a connection it
    connects to one, and disconnects at the end.

    Args:
        config: a `TrainReidConfig` or `TrainMultitaskConfig`.
        resume: run directory of a training to continue with the same configuration; by default
            the training is new.
        sources: sources of the values of `config`; by default the arguments of `config` are the
            user's. Values that the user did not set, such as those of a recipe, are adapted to the
            data.
        ray_address: `local` starts Ray in this process, and `auto` or HOST:PORT joins a cluster;
            `none` trains in this process, which needs no Ray. By default the address in
            RAY_ADDRESS, or else `local`.
        verbose: whether Ray's own messages are shown.
        wait_for_resources: time to wait for CPUs and GPUs that other jobs of a cluster hold, or
            that its autoscaler has to start, as `90s`, `10m` or `1h`.
        started: seconds since 1970 from which `max_minutes` counts; by default now.
        on_start: function that is called with the run directory once all checks passed, before
            Ray is connected.

    Raises:
        UserError: the configuration, the images, the run directory or the cluster do not allow the
            training.
        MachineError: the run directory cannot be written, or machines failed.

    Example:
        >>> import reidray
        >>> config = reidray.TrainReidConfig(data="CROPS", recipe="demo")  # doctest: +SKIP
        >>> run = reidray.train(config)  # doctest: +SKIP
        >>> model = reidray.load_model(run.model)  # doctest: +SKIP
    """
    started = time.time() if started is None else started
    sources = sources or Sources(overrides=config.given_keys())
    check_training_inputs(config, resumes=resume is not None)
    with_ray = _prepare_process(config, ray_address)
    with lock_run(config, resume) as run:  # before PyTorch and Ray load
        with Activity(f"loading PyTorch{' and Ray' * with_ray}", delay=SHOW_AFTER_SECONDS):
            from reidray.training.orchestration import (
                build_experiment,
                decode_images,
                train_experiment,
            )

            engine = _load_engine(with_ray=with_ray)
        with Activity(f"reading {join_values(config.data)}", delay=SHOW_AFTER_SECONDS):
            experiment = build_experiment(config, run, sources)
        if on_start is not None:
            on_start(run)
        session: AbstractContextManager[None] = nullcontext()
        if with_ray:
            session = _session(config, ray_address, wait_for_resources, verbose=verbose)
        with session:
            decoded = decode_images(experiment, engine)
            del experiment  # with the labels of images that do not decode
            return train_experiment(decoded, engine, started=started)


def plan_training(
    config: TrainingConfig,
    *,
    sources: Sources | None = None,
    ray_address: str | None = None,
    verbose: bool = False,
    wait_for_resources: str = DEFAULT_WAIT,
) -> dict[str, Any]:
    """Time some steps and images of a new training, and log and return what it takes.

    The function connects to Ray as `train` does, and writes nothing.

    Args:
        config: a `TrainReidConfig` or `TrainMultitaskConfig`.
        sources: sources of the values of `config` (see `train`).
        ray_address: address of Ray (see `train`).
        verbose: whether Ray's own messages are shown.
        wait_for_resources: time to wait for CPUs and GPUs (see `train`).

    Raises:
        UserError: the configuration, the images or the cluster do not allow the training, or no
            image of the sample decodes.
    """
    sources = sources or Sources(overrides=config.given_keys())
    if config.output is not None:
        check_disjoint("output", config.output, {"data": config.data})
    check_training_inputs(config)
    with_ray = _prepare_process(config, ray_address)
    with (
        tempfile.TemporaryDirectory(prefix="reidray-plan-") as folder,
        Activity(f"loading PyTorch{' and Ray' * with_ray}", delay=SHOW_AFTER_SECONDS),
    ):
        from reidray.training.orchestration import build_experiment
        from reidray.training.planning.training_plan import plan_experiment

        engine = _load_engine(with_ray=with_ray)
        run = RunDirectory.from_uri(folder)  # stands for the one of the training
        experiment = build_experiment(config, run, sources)
    session: AbstractContextManager[None] = nullcontext()
    if with_ray:
        session = _session(config, ray_address, wait_for_resources, verbose=verbose)
    with session:
        return plan_experiment(experiment, engine, with_ray=with_ray)


def _prepare_process(config: TrainingConfig, ray_address: str | None) -> bool:
    """Return whether a training uses Ray; prepare this process if it trains by itself.

    Raises:
        UserError: a setting needs Ray, and the address is `none`.
    """
    with_ray = uses_ray(ray_address)
    if not with_ray:
        _check_without_ray(config)
        os.environ.update(WORKER_SETTINGS | os.environ)  # PyTorch reads them when it loads
    return with_ray


def _check_without_ray(config: TrainingConfig) -> None:
    """Check that no setting of a training without Ray needs it.

    Raises:
        UserError: one does; the message names it.
    """
    needs_ray = {
        "num_workers": config.workers > 1,
        "min_workers": config.min_workers is not None,
        "ingest": config.ingest == "stream",
        "auto_batch": config.auto_batch,
    }
    for field_name, is_needed in needs_ray.items():
        if is_needed:
            raise UserError(
                f"`{field_name}` {getattr(config, field_name)} needs Ray, and `ray_address` is "
                "none, as given or in RAY_ADDRESS: leave one of them out"
            )


def _load_engine(*, with_ray: bool) -> "TrainingEngine":
    """Return the engine that decodes and trains; only that of Ray imports Ray."""
    if with_ray:
        from reidray.training.execution.ray_trainer import RayEngine

        return RayEngine()
    from reidray.training.execution.single_process import SingleProcess

    return SingleProcess()


def _session(
    config: TrainingConfig, ray_address: str | None, wait_for_resources: str, *, verbose: bool
) -> AbstractContextManager[None]:
    """Return the connection to Ray, which stays as it is where the process is connected."""
    import ray

    if ray.is_initialized():
        return nullcontext()
    return ray_session(
        ray_address,
        verbose=verbose,
        needs_gpu=config.gpu_setting,
        wait_for_resources=wait_for_resources,
    )


def check_training_inputs(config: TrainingConfig, *, resumes: bool = False) -> None:
    """Check that the images and the first weights of a training exist, in a known layout.

    Raises:
        UserError: an input is missing or has no layout; the message names its field.
    """
    check_data("data", config.data)
    if not resumes:
        check_weights("network.weights", config.network.weights)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
