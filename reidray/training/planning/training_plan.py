"""Plan a training: time some of its steps and images, and say what the training takes."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reidray.config import TrainReidConfig
from reidray.data.ingest.image_files import ImageFiles
from reidray.inference.distributed.task_runner import LocalTasks, RayTasks, TaskRunner
from reidray.inference.planning.file_timing import FileTiming
from reidray.inference.planning.measured_costs import (
    Cost,
    format_number,
    format_range,
    rounded,
)
from reidray.progress import Activity
from reidray.storage.location import Location
from reidray.terminal import align_columns, count_noun
from reidray.training.batch_search import with_largest_batch
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.engine import TrainingEngine, TrainingPlan
from reidray.training.execution.resources import check_gpu_settings
from reidray.training.experiment import Experiment
from reidray.training.planning.sample_timing import time_sample
from reidray.training.planning.step_timing import NoiseCrops, StepTiming, time_steps
from reidray.training.planning.training_arithmetic import (
    DECODING,
    READING,
    STEPS,
    TrainingCosts,
    TrainingEstimate,
    TrainingMachines,
    TrainingSize,
    estimate_to_json,
    estimate_training,
)

log = logging.getLogger("reidray")

MAX_TIMED_TASKS = 8
"""Tasks that are timed at the same time, at most."""

NOT_COUNTED = (
    "start of the processes",
    "exchange of gradients between workers",
    "compilation",
    "metrics of the validation",
    "checkpoints and report",
)
"""Name what the minutes of a plan leave out."""


def plan_experiment(
    experiment: Experiment, engine: TrainingEngine, *, with_ray: bool
) -> dict[str, Any]:
    """Time some steps and images of a training, and log and return what the whole training takes.

    The steps are those of the training, on crops of noise, with the resources of a worker. The
    function writes nothing.

    Args:
        experiment: training that passed its checks.
        engine: the engine that would train.
        with_ray: whether it is that of Ray.

    Raises:
        UserError: the machines have no room for the images or the workers, the batch does not fit
            into memory, or no image of the sample decodes.
    """
    files = experiment.image_files()
    plan = engine.plan(experiment.config, files)
    experiment = replace(experiment, config=replace(experiment.config, num_workers=plan.counts[-1]))
    check_gpu_settings(experiment.config, plan.resources)
    crops = NoiseCrops(files.size, files.masks is not None)
    if experiment.config.auto_batch:
        job = experiment.train_job(crops, plan.resources, None)
        experiment = with_largest_batch(experiment, job, plan.resources)
    machines = _machines_of(plan, files, with_ray=with_ray)
    runner: TaskRunner = RayTasks(machines.decoders) if with_ray else LocalTasks()
    with Activity(f"timing images of {len(files.paths):,}"):
        num_tasks = min(machines.decoders, MAX_TIMED_TASKS) if with_ray else 1
        timings = time_sample(runner, files, num_tasks)
    size = _size_of(experiment, files, crops)
    share = -(-size.images_per_batch // (size.batch_step * machines.workers)) * size.batch_step
    with Activity(f"timing steps on {share} images"):
        job = experiment.train_job(crops, plan.resources, None)
        steps = plan.resources.run(time_steps, job, share, plan.resources.use_gpu)
    costs = TrainingCosts(
        read=Cost.of((each.read_seconds, each.num_images) for each in timings),
        decode=Cost.of((each.decode_seconds, each.num_images) for each in timings),
        step=steps.step,
        peak_bytes=steps.peak_bytes,
        gpu_bytes=steps.gpu_bytes,
    )
    estimate = estimate_training(size, machines, costs)
    described = {
        "plan": "train",
        "images": size.images,
        "validation_images": size.validation_images,
        "people": (
            experiment.labels["train"].num_people
            if isinstance(experiment.config, TrainReidConfig)
            else None
        ),
        "epochs": size.epochs,
        "steps_per_epoch": size.steps_per_epoch,
        "images_per_batch": size.images_per_batch,
        "workers": machines.workers,
        "nodes": machines.nodes,
        "device": "cuda" if machines.on_gpu else "cpu",
        "ingest": machines.mode,
        "crops_gb": rounded(size.crop_bytes / 1e9),
        **estimate_to_json(estimate, machines.nodes),
        **_describe_measurements(timings, costs, steps, share),
        "not_counted": list(NOT_COUNTED),
    }
    for line in _format_estimate(experiment, plan, estimate, described):
        log.info("%s", line)
    return described


def _machines_of(plan: TrainingPlan, files: ImageFiles, *, with_ray: bool) -> TrainingMachines:
    """Return the machines of a training."""
    workers, resources = plan.counts[-1], plan.resources
    nodes = 1
    decoders = beside = len(os.sched_getaffinity(0))
    if with_ray:
        from reidray.cluster_resources import cluster_capacity  # imports Ray

        capacity = cluster_capacity()
        decoders = max(1, capacity.cpus)
        beside = max(1, int(capacity.cpus - workers * resources.reserved["CPU"]))
        kind, each = ("GPU", 1) if resources.use_gpu else ("CPU", resources.cpus)
        rooms = sorted((int(node.get(kind, 0) // each) for node in capacity.most), reverse=True)
        nodes = next(
            (number for number in range(1, len(rooms)) if sum(rooms[:number]) >= workers),
            max(1, len(rooms)),
        )
    elif files.masks is not None or not isinstance(files.location, Location):
        decoders = 1  # this process decodes
    return TrainingMachines(
        nodes=nodes,
        workers=workers,
        on_gpu=resources.use_gpu,
        mode=plan.mode,
        decoders=decoders,
        decoders_beside=beside,
        overlaps_reading=files.location.is_remote,
    )


def _size_of(experiment: Experiment, files: ImageFiles, crops: NoiseCrops) -> TrainingSize:
    """Return the sizes of a training."""
    config = experiment.config
    task = experiment.task.build_task(config, experiment.labels, crops.open(), DistributedContext())
    return TrainingSize(
        images=len(files.paths),
        validation_images=task.validation_images,
        epochs=config.epochs,
        validations=-(-config.epochs // config.validation.every),
        steps_per_epoch=task.steps_per_epoch,
        images_per_batch=config.images_per_batch,
        batch_step=config.batch_step,
        crop_bytes=files.decoded_bytes,
        max_seconds=None if config.max_minutes is None else 60 * config.max_minutes,
    )


def _describe_measurements(
    timings: Sequence[FileTiming], costs: TrainingCosts, steps: StepTiming, share: int
) -> dict[str, Any]:
    """Return what was measured: images per second of one process, and the sample."""
    num_images = sum(each.num_images for each in timings)
    num_bytes = sum(each.num_bytes for each in timings)
    return {
        "one_process": {
            READING: costs.read.to_rate(),
            DECODING: costs.decode.to_rate(),
            STEPS: (costs.step * (1 / share)).to_rate(),
        },
        "seconds_per_step": rounded(costs.step.seconds),
        "input_wait": rounded(steps.input_wait),
        "sampled": num_images,
        "bad_in_sample": sum(each.num_bad for each in timings),
        "kilobytes_per_image": rounded(num_bytes / num_images / 1e3),
        "worker_gb": rounded(costs.peak_bytes / 1e9),
        "gpu_gb": rounded(costs.gpu_bytes / 1e9),
    }


def _format_estimate(
    experiment: Experiment,
    plan: TrainingPlan,
    estimate: TrainingEstimate,
    described: dict[str, Any],
) -> list[str]:
    """Return the lines of a plan."""
    rows: list[tuple[str, ...]] = [
        ("part", "one process, images/s", "range", "minutes", "range", "share")
    ]
    for name, values in described["stages"].items():
        rate = described["one_process"].get(name)
        rows.append(
            (
                name,
                format_number(rate["per_second"]) if rate else "",
                format_range(rate) if rate else "",
                format_number(values["minutes"]),
                format_range(values),
                f"{100 * values['share']:.0f} %",
            )
        )
    total, epoch = described["total"], described["epoch"]
    rows += [
        ("an epoch", "", "", format_number(epoch["minutes"]), format_range(epoch), ""),
        ("in all", "", "", format_number(total["minutes"]), format_range(total), ""),
    ]
    crops = f"{format_number(described['crops_gb'])} GB of crops"
    keeps = "in the memory of each node" if plan.mode == "resident" else "decoded in each epoch"
    suggested = f"suggested: {count_noun(estimate.suggested_workers, 'worker')}: {estimate.reason}"
    if estimate.cpus_per_worker is not None:
        suggested += f"; decoding takes {count_noun(estimate.cpus_per_worker, 'CPU')} for each"
    lines = [
        f"{experiment.describe_images()}; {described['epochs']} epochs of "
        f"{described['steps_per_epoch']:,} steps, batches of "
        f"{experiment.config.describe_batch()}; {plan.describe()}",
        *align_columns(rows),
        f"what binds: {estimate.binds}; {format_number(described['node_hours'])} node-hours",
        f"ingest {plan.mode}: {crops}, {keeps}; "
        f"{format_number(described['memory_gb_per_node'])} GB of memory on a node",
        suggested,
        f"not counted: {', '.join(NOT_COUNTED)}",
    ]
    if estimate.epochs_in_time is not None:
        lines.insert(
            -2,
            f"{estimate.epochs_in_time} of {described['epochs']} epochs within "
            f"`max_minutes={experiment.config.max_minutes:g}`",
        )
    return lines
