"""Averaged weights and frozen backbones do what they promise, also in a resumed training."""

import time

import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.line_task import (
    STEPS,
    CheckpointSaver,
    LineTask,
    build_line_network,
    copy_state,
    trainer_config,
)
from torch import nn

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.models import build_model
from reidray.storage.location import Location
from reidray.training.checkpoint import TrainingSnapshot
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import fit
from reidray.training.runs.checkpoint_files import check_checkpoint
from reidray.training.steps.averaged_network import AveragedNetwork
from reidray.training.steps.optimizers import build_optimizer
from reidray.training.steps.parameter_groups import freezable_backbone
from reidray.training.steps.step_runner import StepRunner
from reidray.training.time_budget import TimeLimit

META = torch.device("meta")
ALL_SETTINGS = {
    "ema_decay": 0.9,
    "freeze_backbone": 0.4,
    "layer_decay": 0.7,
    "head_rate_factor": 3.0,
    "schedule": "one_cycle",
    "max_grad_norm": 1.0,
}


def train(config, task=None, network=None, callback=None, checkpoint=None):
    task, network = task or LineTask(), network or build_line_network()
    return fit(task, network, config, callback or EpochRecorder(), checkpoint=checkpoint)


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_average_is_validated_and_kept_as_the_best_weights():
    task, network = LineTask(), build_line_network()
    average = copy_state(network)
    snapshot = train(trainer_config(ema_decay=0.6), task, network)
    for step, weights in enumerate(task.seen, start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in weights.items():
            is_counter = name.endswith("num_batches_tracked")
            average[name] = value if is_counter else decay * average[name] + (1 - decay) * value
        if step % STEPS == 0:
            validated = task.validated[step // STEPS - 1]
            assert validated.keys() == average.keys()
            for name, value in average.items():
                assert torch.allclose(validated[name], value, atol=1e-6), name
    best = snapshot.trainer_state.best_epoch
    assert_same(snapshot.best_weights, task.validated[best - 1])
    assert not torch.allclose(validated["head.weight"], task.seen[-1]["head.weight"], atol=1e-3)
    running = "backbone.1.running_mean"
    assert not torch.allclose(validated[running], task.seen[-1][running], atol=1e-3)


def test_a_training_with_an_average_takes_the_same_steps():
    plain, averaged = LineTask(), LineTask()
    train(trainer_config(), plain)
    train(trainer_config(ema_decay=0.9), averaged)
    for one, other in zip(plain.seen, averaged.seen, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_resumed_training_continues_bit_for_bit(name, epoch, tmp_path):
    config = trainer_config(name=name, **ALL_SETTINGS)
    whole, resumed = LineTask(), LineTask()
    end = train(config, whole, callback=CheckpointSaver(tmp_path))
    torch.manual_seed(9)
    checkpoint = tmp_path / str(epoch)
    again = train(config, resumed, type(build_line_network())(), checkpoint=checkpoint)
    assert_same(resumed.seen[-1], whole.seen[-1])
    assert_same(resumed.validated[-1], whole.validated[-1])
    assert_same(again.best_weights, end.best_weights)
    assert_same(again.average.tensors(), end.average.tensors())


def test_damage_to_the_average_of_a_checkpoint_is_found(tmp_path):
    train(trainer_config(1, ema_decay=0.9), callback=CheckpointSaver(tmp_path))
    folder = tmp_path / "1"
    check_checkpoint(Location(str(folder)))
    file = folder / "average.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    with pytest.raises(UserError, match=r"average\.safetensors is damaged"):
        check_checkpoint(Location(str(folder)))
    file.unlink()
    with pytest.raises(UserError, match=r"average\.safetensors is missing"):
        train(trainer_config(2, ema_decay=0.9), checkpoint=folder)


def test_an_average_begins_where_a_sweep_turns_it_on(tmp_path):
    train(trainer_config(1), callback=CheckpointSaver(tmp_path))
    network = build_line_network()
    optimizer = build_optimizer(OptimizerConfig(), network)
    snapshot = TrainingSnapshot(network, optimizer, average=AveragedNetwork(network, 0.9))
    snapshot.restore(tmp_path / "1")
    assert_same(copy_state(snapshot.evaluated_network), copy_state(network))


def test_the_average_shares_other_buffers_and_keeps_the_layout():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.register_buffer("bank", torch.zeros(1000))
    network.to(memory_format=torch.channels_last)
    average = AveragedNetwork(network, 0.9).network
    assert average.bank is network.bank
    assert average[1].num_batches_tracked is network[1].num_batches_tracked
    assert average[1].running_mean is not network[1].running_mean
    assert average[0].weight.stride() == network[0].weight.stride()


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ({"name": "transreid", "backbone": "test_vit", "num_cameras": 2}, "camera_vectors"),
        ({"name": "baseline", "backbone": "resnet_tiny", "pooling": "gem"}, "pooling.exponent"),
    ],
)
def test_what_no_pretrained_weights_fill_trains_in_a_frozen_backbone(options, trains):
    with META:
        network = build_model(num_people=3, height=32, width=32, **options)
    _, frozen = freezable_backbone(network)
    held = {id(parameter) for parameter in frozen}
    names = {name for name, each in network.backbone.named_parameters() if id(each) not in held}
    assert names == {trains}


def test_a_frozen_backbone_stays_as_it_is_and_is_then_released():
    task, network = LineTask(), build_line_network()
    before = copy_state(network)
    train(trainer_config(freeze_backbone=0.4), task, network)
    backbone = [name for name in before if name.startswith("backbone.")]
    for step, weights in enumerate(task.seen):
        moved = {name for name in backbone if not torch.equal(weights[name], before[name])}
        assert not torch.equal(weights["head.weight"], before["head.weight"])
        assert moved == (set() if step / len(task.seen) < 0.4 else set(backbone)), step
        before = weights
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_backbone_that_the_network_froze_itself_stays_frozen():
    network = build_line_network()
    network.backbone[0].requires_grad_(False)
    before = copy_state(network)
    train(trainer_config(freeze_backbone=0.4), network=network)
    assert torch.equal(network.backbone[0].weight, before["backbone.0.weight"])
    assert not torch.equal(network.backbone[2].weight, before["backbone.2.weight"])


class ClockTask(LineTask):
    """Move a clock by a second at each step."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def losses(self, network, batch):
        self.clock.append(self.clock[-1] + network.training)
        return super().losses(network, batch)


def test_freezing_follows_a_time_limit_and_a_resumed_training_does_not_repeat_it(
    tmp_path, monkeypatch
):
    """By its steps the training has hardly begun when it ends."""
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[-1])

    def limited():
        limit = TimeLimit(started=clock[-1], seconds=60, workers_started=clock[-1])
        return trainer_config(100_000, limit=limit, freeze_backbone=0.3)

    task, saver = ClockTask(clock), CheckpointSaver(tmp_path)
    before = copy_state(build_line_network())
    train(limited(), task, callback=saver)
    moved = [
        not torch.equal(x["backbone.0.weight"], before["backbone.0.weight"]) for x in task.seen
    ]
    assert 50 < len(moved) <= 60
    assert moved == sorted(moved)
    assert moved.index(True) / len(moved) == pytest.approx(0.3, abs=0.1)
    halfway = saver.records[len(saver.records) // 2]
    resumed, recorder = ClockTask(clock), EpochRecorder()
    train(limited(), resumed, callback=recorder, checkpoint=tmp_path / str(halfway["epoch"]))
    assert 50 < len(resumed.seen) <= 60
    assert recorder.records[0]["learning_rate"] <= halfway["learning_rate"]
    first, second = (state["backbone.0.weight"] for state in resumed.seen[:2])
    assert not torch.equal(first, second)


def test_steps_of_every_setting_read_no_value_from_the_device():
    """The device `meta` stands for a GPU: whoever reads a value there raises."""
    task, network = LineTask(), build_line_network().to(META)
    config = trainer_config(**ALL_SETTINGS)
    average = AveragedNetwork(network, 0.9)
    optimizer = build_optimizer(config.optimizer, network)
    runner = StepRunner(task, network, optimizer, config, DistributedContext(device=META))
    runner.set_training_mode()
    for step, done in enumerate((0.0, 0.2, 0.4, 0.9), start=1):
        batch = tuple(part.to(META) for part in next(task.batches(0)))
        assert runner.run(batch, done).losses.is_meta
        assert runner.is_warm_up == (done in (0.0, 0.4))
        average.update(step)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_compiled_training_is_compiled_again_where_the_backbone_is_released():
    plain, compiled = LineTask(), LineTask()
    settings = {"freeze_backbone": 0.4, "ema_decay": 0.8}
    recorder = EpochRecorder()
    for task, is_compiled in ((plain, False), (compiled, True)):
        network = build_line_network(normalises=False)  # whose gradients are not rounding errors
        train(trainer_config(compiled=is_compiled, **settings), task, network, recorder)
    for one, other in zip(plain.seen, compiled.seen, strict=True):
        for name, value in one.items():
            assert torch.allclose(value, other[name], atol=1e-5), name
    assert all(record["images_per_second"] > 0 for record in recorder.records)


def test_a_checkpoint_passes_between_groupings_of_the_parameters(tmp_path):
    """As where a population takes over the weights of a trial with other settings."""
    end = train(trainer_config(1), callback=CheckpointSaver(tmp_path))
    network = build_line_network()
    optimizer = build_optimizer(OptimizerConfig(layer_decay=0.5), network)
    TrainingSnapshot(network, optimizer).restore(tmp_path / "1")
    before = dict(end.network.named_parameters())
    for name, parameter in network.named_parameters():
        saved = end.optimizer.state[before[name]]["exp_avg"]
        assert torch.equal(optimizer.state[parameter]["exp_avg"], saved), name
