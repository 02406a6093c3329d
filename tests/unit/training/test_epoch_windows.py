"""A process plans, reads and labels its batches in windows, which do not change them."""

import numpy as np
import pytest
import torch
from support.labels import make_labels
from support.synthetic_people import CONFIG

from reidray.config import AugmentConfig, NetworkConfig
from reidray.data.images.crops import CropGroup, CropTable
from reidray.training.distributed_context import DistributedContext
from reidray.training.tasks import augmented_batches
from reidray.training.tasks.reid.task import ReidTask

PATCHING = AugmentConfig(flip=0.5, shift=0.1, random_patch=0.8)


@pytest.fixture
def train():
    random = np.random.default_rng(0)
    people = random.permutation(np.repeat(np.arange(1, 41), 6))
    return make_labels(people, random.integers(-1, 3, len(people)))


def batches_of(train, context):
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (len(train), 32, 16, 3), np.uint8)
    crops = CropTable([CropGroup(train.indices, pixels)])
    batch = CONFIG.batch.replace(people=8, crops=2)
    network = NetworkConfig(name="transreid")
    config = CONFIG.replace(batch=batch, augment=PATCHING, network=network)
    task = ReidTask(config, {"train": train, "val": train}, crops, context)
    batches = list(task.batches(1))
    assert len(batches) == task.steps_per_epoch
    return batches


@pytest.mark.parametrize("context", [DistributedContext(), DistributedContext(1, 2)])
def test_batches_are_the_same_in_windows_of_any_length(train, context, monkeypatch):
    whole = batches_of(train, context)
    monkeypatch.setattr(augmented_batches, "FIRST_WINDOW", 40)
    monkeypatch.setattr(augmented_batches, "LARGEST_WINDOW", 70)
    divided = batches_of(train, context)
    for one, other in zip(whole, divided, strict=True):
        for name, values in vars(one).items():
            assert torch.equal(values, getattr(other, name)), name


def test_labels_are_those_of_the_crops_of_a_batch(train):
    people, first = np.unique(train.person_ids, return_index=True)
    cameras = train.cameras
    for batch in batches_of(train, DistributedContext()):
        assert batch.person_indices.dtype == batch.camera_indices.dtype == torch.int64
        shown = people[batch.person_indices.numpy().reshape(8, 2)]
        assert (shown == shown[:, :1]).all()
        known = batch.camera_indices >= 0
        assert set(cameras[batch.camera_indices[known].numpy()].tolist()) <= {0, 1, 2}
    assert len(first) == 40
