"""Train a network with one call. This module imports neither PyTorch nor Ray at its top."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from reidray.config import TrainingConfig
from reidray.config.data_sources import join_values
from reidray.config.sources import Sources
from reidray.data.layouts import check_layout
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.input_checks import check_data, check_file
from reidray.training.runs.run_directory import RunDirectory, TrainingRun, lock_run

NAMED_WEIGHTS = ("none", "imagenet")


def train(
    config: TrainingConfig,
    *,
    resume: str | None = None,
    sources: Sources | None = None,
    ray_address: str | None = None,
    verbose: bool = False,
    started: float | None = None,
    on_start: Callable[[RunDirectory], None] | None = None,
) -> TrainingRun:
    """Train a network on a Ray cluster, and write a run directory.

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
            by default the address in RAY_ADDRESS, or else `local`.
        verbose: whether Ray's own messages are shown.
        started: seconds since 1970 from which `max_minutes` counts; by default now.
        on_start: function that is called with the run directory once all checks passed, before
            Ray is connected.

    Raises:
        UserError: the configuration, the images, the run directory or the cluster do not allow the
            training.

    Example:
        >>> import reidray
        >>> config = reidray.TrainReidConfig(data="CROPS", recipe="demo")  # doctest: +SKIP
        >>> run = reidray.train(config)  # doctest: +SKIP
        >>> model = reidray.load_model(run.model)  # doctest: +SKIP
    """
    started = time.time() if started is None else started
    sources = sources or Sources(overrides=config.given_keys())
    check_training_inputs(config)
    with lock_run(config, resume) as run:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            import ray

            from reidray.ray_runtime import ray_session
            from reidray.training.orchestration import build_experiment, train_experiment

        with Activity(f"reading {join_values(config.data)}", delay=SHOW_AFTER_SECONDS):
            experiment = build_experiment(config, run, sources)
        if on_start is not None:
            on_start(run)
        is_connected = ray.is_initialized()
        session = ray_session(ray_address, verbose=verbose, needs_gpu=config.gpu_setting)
        with nullcontext() if is_connected else session:
            return train_experiment(experiment, started=started)


def check_training_inputs(config: TrainingConfig) -> None:
    """Check that the images and the first weights of a training exist, in a known layout.

    Raises:
        UserError: an input is missing or has no layout; the message names its field.
    """
    check_data("data", config.data)
    if config.network.weights not in NAMED_WEIGHTS:
        check_file("network.weights", config.network.weights)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
