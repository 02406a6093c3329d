"""Build a training task of people that are easy to tell apart, and a network for them."""

import numpy as np
import torch

from reidray.config import (
    AugmentConfig,
    BatchConfig,
    NetworkConfig,
    ReidValidationConfig,
    TrainReidConfig,
)
from reidray.data.attribute_schema import Attribute, AttributeSchema
from reidray.data.images.crops import CropGroup, CropTable
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.reid.task import ReidTask
from support.labels import make_labels

SCHEMA = AttributeSchema((Attribute("colour", ("dark", "light")),))
CONFIG = TrainReidConfig(
    data="-",
    network=NetworkConfig(height=32, width=16),
    batch=BatchConfig(people=4, crops=2),
    augment=AugmentConfig(shift=0.1),
    validation=ReidValidationConfig(select_by="mean_ap"),
)


def label_crops(people, first_row):
    """Return labels of three images of each person by each of two cameras."""
    shown = np.repeat(people, 6)
    return make_labels(
        shown,
        np.tile([1, 1, 1, 2, 2, 2], len(people)),
        (shown % 2)[:, None],
        SCHEMA,
        first_index=first_row,
    )


def build_task(config=CONFIG, context=DistributedContext()):
    """Return a task whose people are plain colours with noise."""
    train, validation = label_crops(np.arange(1, 9), 0), label_crops(np.arange(9, 13), 48)
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (13, 1, 1, 3))
    colours[1::2] //= 3
    people = np.concatenate([train.person_ids, validation.person_ids])
    noise = random.normal(0, 12, (len(people), 32, 16, 3))
    crops = np.clip(colours[people] + noise, 0, 255).astype(np.uint8)
    labels = {"train": train, "val": validation}
    return ReidTask(config, labels, CropTable([CropGroup(np.arange(len(crops)), crops)]), context)


def build_network():
    torch.manual_seed(0)
    return build_unseeded_network()


def build_unseeded_network():
    return build_model(
        "apr",
        backbone="resnet_tiny",
        num_people=8,
        schema=SCHEMA,
        feature_size=16,
        dropout=0.2,
    )
