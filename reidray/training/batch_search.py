"""Find the largest batch that fits into the memory of a GPU, by training a few steps with it."""

import gc
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from reidray.config import TrainingConfig
from reidray.config.sections.limits import MAX_IMAGES_A_BATCH
from reidray.errors import UserError
from reidray.training.execution.resources import Resources
from reidray.training.execution.train_job import TrainJob
from reidray.training.experiment import Experiment
from reidray.training.short_training import train_shortly

log = logging.getLogger("reidray")

MEMORY_SHARE = 0.9
"""Share of a GPU's free memory that a batch may use: the rest is for DDP's buckets, the validation
and fragmentation."""

STEPS = 3
"""Steps of a try. From the second step on, memory also holds the state of the optimiser."""

NO_ALGORITHM = "unable to find an engine"
"""Words of cuDNN's error where the memory is too small for the workspace of every algorithm."""


def with_largest_batch(experiment: Experiment, job: TrainJob, resources: Resources) -> Experiment:
    """Return an experiment with the largest batch that fits, and log the batch.

    One Ray task with the resources of a worker tries batches with steps of the training itself.

    Args:
        experiment: training on the images that decode.
        job: its job.
        resources: resources of each worker.

    Raises:
        UserError: not even the smallest batch fits.
    """
    config, workers = experiment.config, experiment.config.workers
    largest = min(experiment.largest_batch(), MAX_IMAGES_A_BATCH) // (config.batch_step * workers)
    found = resources.run(find_worker_share, job, largest)
    if found is None:
        raise UserError(
            f"a batch of {2 * config.batch_step * workers} images does not fit into "
            f"{MEMORY_SHARE:.0%} of the GPU's free memory: use a smaller network, or smaller crops"
        )
    resolved = with_batch(config, found * config.batch_step * workers)
    log.info(
        "batches of %s: the largest that fit into %.0f %% of the GPU's free memory%s",
        resolved.describe_batch(),
        100 * MEMORY_SHARE,
        " or that the data fill" if found == largest else "",
    )
    if resolved.optimizer.learning_rate != config.optimizer.learning_rate:
        log.info(
            "learning rate %.3g instead of %.3g, scaled for the batch (%s)",
            resolved.optimizer.learning_rate,
            config.optimizer.learning_rate,
            config.optimizer.scale_learning_rate,
        )
    return experiment.with_config(resolved)


def with_batch(config: TrainingConfig, images: int) -> Any:
    """Return a configuration with a batch of some size, which repeats the run without a search.

    Args:
        config: configuration that asks for a search.
        images: number of images in a global batch.
    """
    ratio = images / config.images_per_batch
    rate = scaled_rate(config.optimizer.learning_rate, ratio, config.optimizer.scale_learning_rate)
    optimizer = replace(config.optimizer, learning_rate=rate, scale_learning_rate="none")
    return replace(config.with_images_per_batch(images), auto_batch=False, optimizer=optimizer)


def scaled_rate(rate: float, ratio: float, rule: Literal["none", "linear", "sqrt"]) -> float:
    """Return the learning rate for a batch that is `ratio` times as large.

    The linear rule keeps the change of the weights by an epoch of SGD (Goyal et al. 2017). The
    square root keeps the variance of that change (Krizhevsky 2014).

    >>> [scaled_rate(0.1, 4, rule) for rule in ("none", "linear", "sqrt")]
    [0.1, 0.4, 0.2]
    """
    match rule:
        case "none":
            return rate
        case "linear":
            return rate * ratio
        case "sqrt":
            return rate * math.sqrt(ratio)


def find_worker_share(job: TrainJob, largest: int) -> int | None:
    """Find the largest share of a batch that fits into the memory of one worker.

    The process may use `MEMORY_SHARE` of the memory that is free on its GPU.

    Args:
        job: the training.
        largest: largest share that the data and the limits of a batch allow.

    Returns:
        The share, in units of `batch_step` images; None where the smallest one, of 2 units, does
        not fit.
    """
    device = torch.device("cuda", torch.cuda.current_device())
    free, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(MEMORY_SHARE * free / total, device)

    def fits(units: int) -> bool:
        fitting = batch_fits(job, units * job.config.batch_step, device)
        gc.collect()  # of the networks and tensors that the error of a failed try held
        torch.cuda.empty_cache()
        return fitting

    return find_largest(fits, 2, largest)


def find_largest(fits: Callable[[int], bool], smallest: int, largest: int) -> int | None:
    """Return a number that fits, at most an eighth below the largest that does.

    The number doubles until one does not fit; bisection then tries the eighths in between, so that
    a batch stays a multiple of a power of two.

    >>> find_largest(lambda number: number <= 50, 2, 1000)
    48
    >>> find_largest(lambda number: True, 2, 751)
    751

    Args:
        fits: whether a number fits; all below one that fits do too.
        smallest: first number to try.
        largest: last number to try.

    Returns:
        The number; None where the smallest does not fit.
    """
    if not fits(smallest):
        return None
    fitting, tried = smallest, min(2 * smallest, largest)
    while fitting < tried and fits(tried):
        fitting, tried = tried, min(2 * tried, largest)
    step = max(1, fitting // 8)
    good, bad = 0, math.ceil((tried - fitting) / step)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(fitting + middle * step) else (good, middle)
    return fitting + good * step


def batch_fits(job: TrainJob, images: int, device: torch.device) -> bool:
    """Return whether memory suffices for a few steps of one worker with this number of images."""
    try:
        train_shortly(job, images, device, steps=STEPS)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or NO_ALGORITHM in str(error):
            return False
        raise
    return True
