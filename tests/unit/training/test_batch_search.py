"""Test the search for the largest batch that fits, with a limit in place of a GPU's memory."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.paths import ROOT
from support.synthetic_people import CONFIG, SCHEMA, build_task, label_crops

from reidray.cli.arguments import parse_arguments
from reidray.config import BatchConfig, OptimizerConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.errors import UserError
from reidray.models.factory import build_architecture
from reidray.training.batch_search import (
    batch_fits,
    find_largest,
    with_batch,
)
from reidray.training.execution.resources import Resources, check_gpu_settings
from reidray.training.execution.train_job import TrainJob

REID = TrainReidConfig(data="-", auto_batch=True, batch=BatchConfig(people=16, crops=4))
PETS = TrainMultitaskConfig(data="-", task="pets", auto_batch=True, batch_size=64)
CPU = torch.device("cpu")


@given(limit=st.integers(0, 3000), largest=st.integers(2, 2000))
def test_the_number_found_fits_and_one_an_eighth_larger_does_not(limit, largest):
    tried = []

    def fits(number):
        tried.append(number)
        return number <= limit

    found = find_largest(fits, 2, largest)
    assert len(tried) == len(set(tried)) <= 15
    assert max(tried) <= largest
    if limit < 2:
        assert found is None
        return
    assert found <= min(limit, largest)
    assert found == largest or found + max(1, found // 8) > limit


class LimitedMemory:
    """Build tasks on a device that holds a number of images."""

    def __init__(self, images, error):
        self.images, self.error, self.steps = images, error, []

    def __call__(self, config, _, __, context):
        task = build_task(config, context)
        compute_losses = task.losses

        def losses(network, batch):
            self.steps.append(len(batch.crops))
            if len(batch.crops) > self.images:
                raise self.error
            return compute_losses(network, batch)

        task.losses = losses
        return task


@pytest.mark.parametrize(("images", "people"), [(3, None), (4, 2), (11, 5), (1000, 8)])
def test_the_training_itself_tries_each_batch(images, people):
    memory, job = build_job(images, torch.OutOfMemoryError("CUDA out of memory."))
    found = find_largest(lambda number: batch_fits(job, number * 2, CPU), 2, 8)
    assert found == people
    assert all(memory.steps.count(size) == 3 for size in memory.steps if size <= images)


def test_a_batch_for_which_cudnn_finds_no_memory_to_work_in_does_not_fit():
    words = "FIND was unable to find an engine to execute this computation"
    assert not batch_fits(build_job(3, RuntimeError(words))[1], 4, CPU)
    with pytest.raises(RuntimeError, match="another"):
        batch_fits(build_job(3, RuntimeError("another"))[1], 4, CPU)


def test_a_try_trains_every_weight_as_a_frozen_backbone_needs_less_memory():
    memory, job = build_job(1000, RuntimeError())
    trained = []

    def build_watched_task(*arguments):
        task = memory(*arguments)
        compute_losses = task.losses

        def losses(network, batch):
            trained.append(all(each.requires_grad for each in network.parameters()))
            return compute_losses(network, batch)

        task.losses = losses
        return task

    optimizer = replace(job.config.optimizer, freeze_backbone=0.9)
    config = replace(job.config, optimizer=optimizer)
    assert batch_fits(replace(job, config=config, build_task=build_watched_task), 8, CPU)
    assert trained == [True] * 3


def build_job(images, error):
    memory = LimitedMemory(images, error)
    architecture = build_architecture(
        "apr", backbone="resnet_tiny", num_people=8, schema=SCHEMA, height=32, width=16
    )
    return memory, TrainJob(
        config=replace(
            CONFIG,
            auto_batch=True,
            num_workers=2,
            optimizer=replace(CONFIG.optimizer, scale_learning_rate="linear"),
        ),
        architecture=architecture,
        training_data="-",
        labels={"train": label_crops(range(1, 9), 0)},
        crops=SimpleNamespace(open=lambda: None),
        build_task=memory,
        limit=None,
        bf16=False,
        threads=1,
    )


@pytest.mark.parametrize(("rule", "rate"), [("none", 0.001), ("linear", 0.004), ("sqrt", 0.002)])
@pytest.mark.parametrize("config", [REID, PETS])
def test_the_resolved_configuration_repeats_the_run_without_a_search(config, rule, rate):
    optimizer = OptimizerConfig(learning_rate=0.001, scale_learning_rate=rule)
    found = with_batch(replace(config, optimizer=optimizer), 256)
    assert not found.auto_batch
    assert found.images_per_batch == 256
    assert found.optimizer.learning_rate == pytest.approx(rate)
    assert found.optimizer.scale_learning_rate == "none"
    assert with_batch(found, 256) == found


def test_a_learning_rate_is_scaled_only_for_a_batch_that_is_searched():
    scaled = OptimizerConfig(scale_learning_rate="sqrt")
    with pytest.raises(ValueError, match="give `auto_batch=True` too"):
        replace(PETS, auto_batch=False, optimizer=scaled)


def test_cpus_are_refused_with_the_field_to_set():
    cpus = Resources(use_gpu=False, cpus=2)
    for config, field in ((REID, "batch.people"), (PETS, "batch_size")):
        with pytest.raises(UserError, match=f"on CPUs: give a number in `{field}`"):
            check_gpu_settings(config, cpus)
        with pytest.raises(ValueError, match=f"`use_gpu` is no: give a number in `{field}`"):
            replace(config, use_gpu="no")
        check_gpu_settings(config, Resources(use_gpu=True, cpus=2))


@pytest.mark.parametrize(
    "words", [["--batch", "auto"], ["--batch=auto"], ["--batch.people", "auto"], ["--auto-batch"]]
)
def test_a_batch_of_auto_asks_for_the_search(words):
    assert parse_arguments(TrainReidConfig, ["--data", "-", *words]).config.auto_batch
    if words[0] != "--batch.people":
        pets = ["--task", "pets", "--data", "-", *words]
        assert parse_arguments(TrainMultitaskConfig, pets).config.auto_batch


def test_a_number_for_the_batch_is_answered_with_the_flags_that_exist():
    with pytest.raises(UserError, match=r"--batch\.people, .*, and --batch auto finds the largest"):
        parse_arguments(TrainReidConfig, ["--data", "-", "--batch", "64"])


@pytest.mark.parametrize("words", [["--batch", "8"], ["--recipe", "auto"], ["--batch", "--auto"]])
def test_other_values_are_refused_as_before(words):
    with pytest.raises(UserError, match="does not exist"):
        parse_arguments(TrainReidConfig, ["--data", "-", *words])


def test_the_job_refuses_the_search_on_cpus_in_one_line():
    words = ["--data", "-", "--batch", "auto", "--use-gpu", "no"]
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "train_reid.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --auto-batch fills the memory of a GPU and --use-gpu is no: "
        "give a number in --batch.people\n"
    )
