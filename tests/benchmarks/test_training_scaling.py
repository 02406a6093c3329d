"""Measure a training of two processes beside one process, and both beside bare PyTorch.

Run with `pytest -m benchmark -s tests/benchmarks/test_training_scaling.py`. Each process has one
PyTorch thread and batches of the same size. Bare PyTorch takes steps on one constant batch, under
DDP with Gloo where there are two. All four take turns. Prints a table and one JSON line.
"""

import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from reidray.config import (
    AugmentConfig,
    BatchConfig,
    NetworkConfig,
    OptimizerConfig,
    ReidValidationConfig,
    TrainReidConfig,
)
from reidray.data.images.crops import CropGroup, CropTable
from reidray.losses import Targets, loss_modules
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.reid.task import ReidTask

PEOPLE, IMAGES_OF_EACH, SIZE = 128, 12, (128, 64)
BATCH_PEOPLE, BATCH_CROPS = 16, 4
BATCH = BATCH_PEOPLE * BATCH_CROPS
BARE_STEPS, ROUNDS = 12, 3

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3000)]


@dataclass(frozen=True)
class Pace:
    """Hold what a window of a training took.

    Attributes:
        seconds: seconds of an image, of all processes together.
        cpu: CPU seconds of an image.
        main: CPU seconds of an image in the main threads.
    """

    seconds: float
    cpu: float
    main: float


class Clock:
    """Measure from one moment to another in this process, whose images are a share of `world`."""

    def __init__(self):
        self.marks = []

    def mark(self):
        self.marks.append((time.perf_counter(), time.process_time(), time.thread_time()))

    def pace(self, images, world):
        (start, stop) = np.array(self.marks)
        wall, cpu, main = (stop - start) / images
        return Pace(wall / world, cpu, main)


class EpochClock(EpochRecorder, Clock):
    """Mark the ends of the first two epochs."""

    def __init__(self):
        EpochRecorder.__init__(self)
        Clock.__init__(self)

    def on_epoch_end(self, record, save):
        super().on_epoch_end(record, save)
        if len(self.marks) < 2:
            self.mark()


def build_network():
    torch.manual_seed(0)
    return build_model("baseline", backbone="resnet_small_patch", num_people=PEOPLE)


def build_task(context):
    """Return a task over resident crops of noise, augmented as the recipes do."""
    person_ids = np.repeat(np.arange(PEOPLE), IMAGES_OF_EACH)
    crops = np.random.default_rng(0).integers(0, 256, (len(person_ids), *SIZE, 3), dtype=np.uint8)
    config = TrainReidConfig(
        data="-",
        network=NetworkConfig(height=SIZE[0], width=SIZE[1]),
        batch=BatchConfig(people=BATCH_PEOPLE * context.world_size, crops=BATCH_CROPS),
        augment=AugmentConfig(flip=0.5, shift=0.06, brightness=0.15, erasing=0.4),
    )
    labels = make_labels(person_ids, np.arange(len(person_ids)) % 2)
    splits = {"train": labels, "val": labels.take(person_ids < 4)}
    return ReidTask(config, splits, CropTable([CropGroup(np.arange(len(crops)), crops)]), context)


def measure_training(context):
    task, clock = build_task(context), EpochClock()
    config = TrainerConfig(
        epochs=3, seed=0, optimizer=OptimizerConfig(), validation=ReidValidationConfig(every=3)
    )
    fit(task, build_network(), config, clock, context=context)
    return clock.pace(task.steps_per_epoch * BATCH, context.world_size)


def measure_bare(context):
    network = build_network()
    build_task(context).prepare(network)
    losses = list(loss_modules(network).values())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    if context.world_size > 1:
        network = DistributedDataParallel(network, gradient_as_bucket_view=True)
    crops = torch.rand(BATCH, 3, *SIZE) * 255
    people = torch.arange(BATCH) // BATCH_CROPS
    targets = Targets(people, people.new_empty((BATCH, 0)))
    clock = Clock()
    for step in range(BARE_STEPS + 2):
        if step == 2:
            clock.mark()
        optimizer.zero_grad(set_to_none=True)
        outputs = network(crops)
        values = [loss(outputs, targets) for loss in losses]
        sum(value for value in values if value is not None).backward()
        optimizer.step()
    clock.mark()
    return clock.pace(BARE_STEPS * BATCH, context.world_size)


def run_process(rank, count, folder):
    """Measure as one of `count` processes, and save what rank 0 found."""
    torch.set_num_threads(1)
    if count > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
        )
    context = DistributedContext(rank, count)
    found = {"reidray": asdict(measure_training(context)), "bare": asdict(measure_bare(context))}
    if context.is_main:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    if count > 1:
        distributed.destroy_process_group()


def measure(count):
    """Return the paces of `count` processes by name."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run_process, (count, folder), nprocs=count)
        found = json.loads((Path(folder) / "found.json").read_text())
    return {name: Pace(**values) for name, values in found.items()}


def test_training_scaling():
    rounds = [{count: measure(count) for count in (1, 2)} for _ in range(ROUNDS)]
    report = {}
    for name in ("reidray", "bare"):
        one, two = (
            {
                key: statistics.median(getattr(each[count][name], key) for each in rounds)
                for key in ("seconds", "cpu", "main")
            }
            for count in (1, 2)
        )
        report[name] = {"one": one, "two": two}
        print(
            f"{name:8} {1 / one['seconds']:6.1f} images/s with one process, "
            f"{1 / two['seconds']:6.1f} with two, {one['seconds'] / two['seconds']:.2f} x; "
            f"CPU-ms of an image {1000 * one['cpu']:.2f} (main thread {1000 * one['main']:.2f}) "
            f"and {1000 * two['cpu']:.2f} ({1000 * two['main']:.2f})"
        )
    print(json.dumps(report))
