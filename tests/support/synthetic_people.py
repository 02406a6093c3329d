"""A training set of people that are easy to tell apart, and a network for them."""

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
from reidray.data.images.crops import CropTable
from reidray.models import build_model
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks.reid.task import ReidTask
from reidray.training.tasks.reid.validation import LabelledCrops

SCHEMA = AttributeSchema((Attribute("colour", ("dark", "light")),))
CONFIG = TrainReidConfig(
    data="-",
    network=NetworkConfig(height=32, width=16),
    batch=BatchConfig(people=4, crops=2),
    augment=AugmentConfig(shift=0.1),
    validation=ReidValidationConfig(select_by="mean_ap"),
)


def label_crops(people, first_row):
    """Three images of each person by each of two cameras."""
    count = len(people) * 6
    shown = np.repeat(people, 6)
    return LabelledCrops(
        rows=np.arange(first_row, first_row + count),
        people=shown,
        cameras=np.tile([1, 1, 1, 2, 2, 2], len(people)),
        codes=(shown % 2)[:, None].astype(np.int8),
        schema=SCHEMA,
    )


def build_task(config=CONFIG, context=DistributedContext()):
    """People as plain colours with noise: easy to tell apart."""
    train, validation = label_crops(np.arange(1, 9), 0), label_crops(np.arange(9, 13), 48)
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (13, 1, 1, 3))
    colours[1::2] //= 3
    people = np.concatenate([train.people, validation.people])
    noise = random.normal(0, 12, (len(people), 32, 16, 3))
    crops = np.clip(colours[people] + noise, 0, 255).astype(np.uint8)
    return ReidTask(config, CropTable.from_array(crops), train, validation, context)


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
