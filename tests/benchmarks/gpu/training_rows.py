"""Measure training from resident crops, beside a bare loop over one constant batch."""

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from measuring import Reach, Row, default_cudnn, synchronize
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels

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

EPOCHS = 3
CROPS_OF_EACH = 4


@dataclass(frozen=True, kw_only=True)
class Training:
    """Describe a training to measure.

    Attributes:
        backbone: the backbone of the network `baseline`.
        size: height and width of the crops.
        batch_size: images in a batch.
        people: people in the training images.
        images_of_each: images of each person.
        least: the least share of the bare loop's images per second.
        bare_steps: steps of the bare loop between two readings of the clock.
    """

    backbone: str
    size: tuple[int, int]
    batch_size: int
    people: int = 751  # as Market-1501, of 12,936 images
    images_of_each: int = 17
    least: float | None = None
    bare_steps: int = 30


def measure_training(training, device):
    """Return the row of a training."""
    task = build_task(training, device)
    with default_cudnn():
        fed = fed_images_per_second(task, training, device)
        bare = bare_images_per_second(task, training, device)
    with default_cudnn(benchmark=True):
        bare_tuned = bare_images_per_second(task, training, device, rounds=1)
    height, width = training.size
    return Row(
        name=f"train {training.backbone} {height}x{width}, batch {training.batch_size}",
        unit="images/s",
        ours=fed["images_per_second"],
        bare=bare,
        reach=None if training.least is None else Reach("at least", training.least),
        details={
            "bare with cudnn.benchmark": bare_tuned,
            "waited for input": fed["input_wait"],
            "steps of an epoch": task.steps_per_epoch,
            "first epoch s": fed["first_epoch_seconds"],
        },
    )


@lru_cache(maxsize=1)
def crops_of_noise(count, size):
    """Return `count` crops of a height and width; after 1,024 they repeat."""
    random = np.random.default_rng(0)
    few = random.integers(0, 256, (min(1024, count), *size, 3), dtype=np.uint8)
    return np.resize(few, (count, *size, 3))


def build_task(training, device):
    """Return a re-ID task over resident crops, augmented as the recipes do."""
    person_ids = np.repeat(np.arange(training.people), training.images_of_each)
    crops = crops_of_noise(len(person_ids), training.size)
    config = TrainReidConfig(
        data="-",
        network=NetworkConfig(height=training.size[0], width=training.size[1]),
        batch=BatchConfig(people=training.batch_size // CROPS_OF_EACH, crops=CROPS_OF_EACH),
        augment=AugmentConfig(flip=0.5, shift=0.05, erasing=0.5),
    )
    labels = make_labels(person_ids, np.arange(len(person_ids)) % 2)
    few_people = np.arange(len(person_ids)) < training.images_of_each * min(8, training.people)
    splits = {"train": labels, "val": labels.take(few_people)}
    table = CropTable([CropGroup(np.arange(len(crops)), crops)])
    return ReidTask(config, splits, table, DistributedContext(device=device))


def build_baseline(training):
    """Return the network of a training, with seeded weights."""
    torch.manual_seed(0)
    return build_model("baseline", backbone=training.backbone, num_people=training.people)


def fed_images_per_second(task, training, device):
    """Return the record of the best epoch after the first, and the seconds of the first."""
    recorder = EpochRecorder()
    config = TrainerConfig(
        epochs=EPOCHS,
        seed=0,
        optimizer=OptimizerConfig(),
        validation=ReidValidationConfig(every=EPOCHS),
        bf16=True,
    )
    context = DistributedContext(device=device)
    fit(task, build_baseline(training), config, recorder, context=context)
    best = max(recorder.records[1:], key=lambda record: record["images_per_second"])
    return best | {"first_epoch_seconds": recorder.records[0]["seconds"]}


def bare_images_per_second(task, training, device, rounds=3):
    """Return the pace of plain PyTorch on one batch: channels-last, bf16, fused AdamW."""
    network = build_baseline(training)
    task.prepare(network)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    count, steps = training.batch_size, training.bare_steps
    crops = torch.rand(count, 3, *training.size, device=device) * 255
    crops = crops.contiguous(memory_format=torch.channels_last)
    person_indices = torch.arange(count, device=device) // CROPS_OF_EACH
    targets = Targets(person_indices, person_indices.new_empty((count, 0)))
    losses = list(loss_modules(network).values())

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            outputs = network(crops)
            values = [loss(outputs, targets) for loss in losses]
        sum(value for value in values if value is not None).backward()
        optimizer.step()

    best = 0.0
    for _ in range(rounds + 1):  # the first warms up
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        best = max(best, count * steps / (time.perf_counter() - start))
    return best
