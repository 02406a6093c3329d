"""Compute what a training takes from costs that are known, and time steps on crops of noise."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic_people import CONFIG, SCHEMA, label_crops

from reidray.inference.planning.measured_costs import Cost
from reidray.models.factory import build_architecture
from reidray.training.execution.train_job import TrainJob
from reidray.training.planning.step_timing import NoiseCrops, time_steps
from reidray.training.planning.training_arithmetic import (
    HOUR,
    TrainingCosts,
    TrainingMachines,
    TrainingSize,
    estimate_to_json,
    estimate_training,
)
from reidray.training.tasks.reid.task import ReidTask

SIZE = TrainingSize(
    images=100_000,
    validation_images=6_400,
    epochs=10,
    validations=5,
    steps_per_epoch=1000,
    images_per_batch=64,
    batch_step=4,
    crop_bytes=10**10,
)
RESIDENT = TrainingMachines(
    nodes=2,
    workers=4,
    on_gpu=True,
    mode="resident",
    decoders=16,
    decoders_beside=8,
    overlaps_reading=False,
)
STREAM = replace(RESIDENT, mode="stream")


def costs(read=1.0, decode=3.0, step=30.0):
    read, decode, step = (
        Cost(each / 1e3, 0.9 * each / 1e3, 1.2 * each / 1e3) for each in (read, decode, step)
    )
    return TrainingCosts(read=read, decode=decode, step=step, peak_bytes=10**9, gpu_bytes=0)


def test_resident_crops_are_decoded_once():
    found = estimate_training(SIZE, RESIDENT, costs())
    assert found.preparation.seconds == pytest.approx(100_000 * 0.004 / 16)
    assert found.epoch.seconds == pytest.approx(30)
    validations = 5 * 6400 * 0.030 / 64 / 3
    assert found.total.seconds == pytest.approx(25 + 300 + validations)
    assert (found.binds, found.cpus_per_worker) == ("training steps", None)
    assert found.memory_bytes == 10**10 + 2 * 10**9


def test_a_stream_is_decoded_in_each_epoch_beside_the_training():
    found = estimate_training(SIZE, STREAM, costs())
    assert found.epoch.seconds == pytest.approx(64_000 * 0.004 / 8)
    assert found.binds == "training steps"
    slow = estimate_training(SIZE, STREAM, costs(decode=30))
    assert slow.epoch.seconds == pytest.approx(64_000 * 0.031 / 8)
    assert slow.binds == "decoding"
    assert slow.cpus_per_worker == 17  # 31 ms an image beside 1.9 ms
    assert slow.suggested_workers == 1
    assert slow.memory_bytes == 2 * 10**9


def test_a_time_limit_leaves_some_of_the_epochs():
    found = estimate_training(replace(SIZE, max_seconds=130), RESIDENT, costs())
    assert found.epochs_in_time == 3
    assert estimate_training(SIZE, RESIDENT, costs()).epochs_in_time is None


@given(st.floats(0.1, 10**5), st.sampled_from([RESIDENT, STREAM]))
def test_suggested_workers_share_a_batch_evenly(step, machines):
    found = estimate_training(SIZE, machines, costs(step=step))
    assert 16 % found.suggested_workers == 0
    assert found.suggested_workers <= 8
    if found.reason == "the fewest that end within an hour":
        training = found.total.seconds - found.preparation.seconds
        if machines is RESIDENT:
            assert training * 4 / found.suggested_workers + 25 <= HOUR * (1 + 1e-9)
    described = estimate_to_json(found, 2)
    assert json.loads(json.dumps(described)) == described


def test_steps_on_noise_are_those_of_the_training():
    architecture = build_architecture(
        "apr", backbone="resnet_tiny", num_people=8, schema=SCHEMA, height=32, width=16
    )
    labels = {"train": label_crops(range(1, 9), 0), "val": label_crops(range(11, 15), 100)}
    seen = []

    def build_watched_task(config, *arguments):
        task = ReidTask(config, *arguments)
        compute = task.losses

        def losses(network, batch):
            seen.append((len(batch.crops), config.optimizer.learning_rate))
            return compute(network, batch)

        task.losses = losses
        return task

    job = TrainJob(
        config=replace(CONFIG, num_workers=2),
        architecture=architecture,
        training_data="-",
        labels=labels,
        crops=NoiseCrops((32, 16), has_masks=False),
        build_task=build_watched_task,
        limit=None,
        bf16=False,
        threads=1,
    )
    found = time_steps(job, 8, use_gpu=False)
    assert 0 < found.step.low <= found.step.seconds <= found.step.high
    assert found.peak_bytes > 10**7
    assert {size for size, _ in seen} == {8}
    assert all(rate < 1e-5 for _, rate in seen)


def test_crops_of_noise_have_masks_where_the_network_predicts_them():
    (group,) = NoiseCrops((8, 4), has_masks=True).sample([np.array([5, 5, 1000])])
    assert group.crops.shape == (3, 8, 4, 3)
    assert (group.crops[0] == group.crops[1]).all()
    assert set(np.unique(group.masks)) == {0, 1}
