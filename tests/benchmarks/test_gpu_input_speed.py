"""Measure the share of a GPU step that waits for crops, beside the same step on one batch.

Run with `pytest -m benchmark -s tests/benchmarks/test_gpu_input_speed.py` where there is a GPU; Ray
is not needed. Prints a table and one JSON line.
"""

import json
from itertools import repeat

import numpy as np
import pytest
import torch
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
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.reid.task import ReidTask

BACKBONE, SIZE = "resnet50", (256, 128)
PEOPLE, CROPS_OF_EACH = 512, 32
BATCHES = (64, 128, 256, 512)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(900),
    pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU"),
]


class OneBatch:
    """The same steps, with the first batch again and again."""

    def __init__(self, task):
        self.task, self.steps_per_epoch = task, task.steps_per_epoch
        self.batch_size, self.losses = task.batch_size, task.losses
        self.validate = task.validate

    def batches(self, epoch):
        return repeat(next(self.task.batches(epoch)), self.steps_per_epoch)


def labelled(people, first_row=0):
    return make_labels(people, np.arange(len(people)) % 2, first_index=first_row)


def pace(task):
    """The last of two epochs."""
    torch.manual_seed(0)
    network = build_model("baseline", backbone=BACKBONE, num_people=PEOPLE)
    listener = EpochRecorder()
    validation = ReidValidationConfig(every=2)
    trainer_config = TrainerConfig(
        epochs=2, seed=0, optimizer=OptimizerConfig(), validation=validation, bf16=True
    )
    fit(task, network, trainer_config, listener, context=DistributedContext(device=DEVICE))
    return listener.records[-1]


def test_share_of_a_gpu_s_step_spent_waiting():
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(PEOPLE), CROPS_OF_EACH)
    crops = random.integers(0, 256, (len(people), *SIZE, 3), dtype=np.uint8)
    table = CropTable([CropGroup(np.arange(len(crops)), crops)])
    figures = []
    print(f"\n{BACKBONE}, {SIZE[0]}x{SIZE[1]}, bf16, {DEVICE}")
    for size in BATCHES:
        config = TrainReidConfig(
            data="-",
            network=NetworkConfig(height=SIZE[0], width=SIZE[1]),
            batch=BatchConfig(people=size // 4, crops=4),
            augment=AugmentConfig(flip=0.5, shift=0.05, erasing=0.5),
        )
        labels = {"train": labelled(people), "val": labelled(people[:256])}
        task = ReidTask(config, labels, table, DistributedContext(device=DEVICE))
        constant, fed = pace(OneBatch(task)), pace(task)
        share = fed["images_per_second"] / constant["images_per_second"]
        row = {"batch": size, "images_per_second": fed["images_per_second"]}
        figures.append(row | {"share_of_constant": share, "input_wait": fed["input_wait"]})
        print(
            f"batch {size:4} {fed['images_per_second']:8,.0f} images/s, {share:6.1%} of the same "
            f"on one batch, waits {fed['input_wait']:.1%}"
        )
    print(json.dumps(figures))
