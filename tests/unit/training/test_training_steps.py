"""A step waits for no device, and losses, gradients and precisions are what a user asks for."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels
from support.synthetic_people import CONFIG, SCHEMA, build_network, build_task
from torch._subclasses.fake_tensor import FakeTensorMode

from reidray.config import (
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainMultitaskConfig,
)
from reidray.data.attribute_schema import Attribute, AttributeSchema
from reidray.data.images.crops import CropGroup, CropTable
from reidray.errors import UserError
from reidray.models import build_model
from reidray.retrieval.numerics import full_precision
from reidray.training.checkpoint import TrainingSnapshot, copy_weights, read_best_weights
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.steps.epoch_progress import EpochStatistics
from reidray.training.steps.forward_pass import ForwardPass, tf32_products
from reidray.training.steps.optimizers import build_optimizer
from reidray.training.steps.training_step import StepResult, run_step
from reidray.training.tasks.multitask.task import MultitaskTask
from reidray.training.tasks.reid.task import ReidTask

CPU, GPU, META = torch.device("cpu"), torch.device("cuda"), torch.device("meta")
ADDED_LOSSES = (
    "arcface",
    "cosface",
    "circle_softmax",
    "circle",
    "supervised_contrastive",
    "center",
)
TRANSREID = {"backbone": "test_vit", "num_people": 8, "num_cameras": 2}
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")


def trainer_config(epochs=2, **settings):
    optimizer = OptimizerConfig(learning_rate=0.003, **settings.pop("optimizer", {}))
    return TrainerConfig(
        seed=0, epochs=epochs, optimizer=optimizer, validation=CONFIG.validation, **settings
    )


def reid_with(mining):
    config = replace(CONFIG, loss=LossConfig(mining=mining, attributes=1.0))
    return build_task(config), build_network()


def reid_with_every_loss(mining):
    weights = {name: {"weight": 0.5} for name in ADDED_LOSSES}
    config = replace(CONFIG, loss=LossConfig(mining=mining, **weights), gather_embeddings=True)
    return build_task(config), build_network()


def transreid(mining):
    weights = {name: {"weight": 0.5} for name in ADDED_LOSSES}
    network = NetworkConfig(name="transreid", height=32, width=16, patch_stride=4)
    config = replace(
        CONFIG,
        network=network,
        loss=LossConfig(mining=mining, **weights),
        gather_embeddings=True,
    )
    return build_task(config), build_model("transreid", **network.options, **TRANSREID)


def multitask(kind):
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    schema = AttributeSchema((Attribute("colour", ("red", "green")),))
    if kind == "pets":
        labels = make_labels(
            np.full(24, -1), class_labels=np.arange(24) % 3, classes=("a", "b", "c")
        )
        network = build_model("pets_scratch_transpose", height=32, width=32, num_classes=3)
    else:
        labels = make_labels(
            np.full(24, -1), attribute_labels=np.zeros((24, 1), int), schema=schema
        )
        network = build_model("attributes_vgg", height=32, width=32, schema=schema)
    masks = crops[..., 0] % 2 if kind == "pets" else None
    config = TrainMultitaskConfig(data="-", task=kind, batch_size=8)
    table = CropTable([CropGroup(np.arange(24), crops, masks)])
    task = MultitaskTask(config, {"train": labels, "val": labels}, table, DistributedContext())
    return task, network


def to_device(batch, device):
    values = {name: each for name, each in vars(batch).items() if isinstance(each, torch.Tensor)}
    return replace(batch, **{name: each.to(device) for name, each in values.items()})


@pytest.mark.parametrize(
    ("build", "kind", "optimizer"),
    [
        (reid_with, "hard", "adamw"),
        (reid_with, "semihard", "adam"),
        (reid_with_every_loss, "hard", "sgd"),
        (transreid, "hard", "adamw"),
        (multitask, "pets", "sgd"),
        (multitask, "attributes", "rmsprop"),
    ],
)
def test_a_step_reads_no_value_from_the_device(build, kind, optimizer):
    """The device `meta` stands for a GPU: whoever reads a value there raises."""
    task, network = build(kind)
    task.prepare(network)
    network.to(META).train()
    forward_pass = ForwardPass(network, META)
    stepper = build_optimizer(OptimizerConfig(name=optimizer), network)
    statistics = EpochStatistics(META)
    for batch in islice(task.batches(0), 2):
        on_device = to_device(batch, META)
        result = run_step(task, forward_pass, stepper, on_device, max_grad_norm=1.0)
        statistics.add(result, task.batch_size(on_device), 0.0)
    assert len(result.names) == len(result.losses) >= 1
    with pytest.raises(NotImplementedError):  # the device holds no values
        statistics.read()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpu_takes_fused_steps(optimizer):
    config = OptimizerConfig(name=optimizer)
    fused = None if optimizer == "rmsprop" else True
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        on_gpu = build_optimizer(config, torch.nn.Conv2d(2, 2, 3))
        for group in on_gpu.param_groups:
            assert group.get("fused") is fused
    on_cpu = build_optimizer(config, torch.nn.Conv2d(2, 2, 3))
    assert all(group.get("fused") is None for group in on_cpu.param_groups)


def results(values):
    return [StepResult(("a", "b"), torch.tensor([value, 1.0])) for value in values]


def test_losses_of_a_gpu_are_read_together_and_summed_as_on_a_cpu():
    random = torch.Generator().manual_seed(0)
    values = torch.rand(250, generator=random).tolist()
    means, reads = [], []
    for device in (CPU, GPU):
        statistics = EpochStatistics(device, world_size=2)
        reads.append(0)
        for result in results(values):
            statistics.add(result, 4, 0.0)
            if statistics.is_read_due:
                reads[-1] += statistics.read().steps > 0
        statistics.read()
        means.append(statistics.mean_losses())
        assert (statistics.images, statistics.steps) == (2000, 250)
    assert reads == [250, 2]
    assert means[0] == means[1]
    total = torch.zeros(())
    for value in values:
        total += torch.tensor(value)
    assert means[0]["loss_a"] == float(total) / 250


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_the_first_step_with_a_broken_loss_is_named_however_late_it_is_read(broken):
    statistics = EpochStatistics(GPU, first_step=40)
    for result in results([1.0, 1.0, broken, float("nan"), 1.0]):
        statistics.add(result, 4, 0.0)
    with pytest.raises(UserError, match=f"the loss is {broken} at step 43: lower"):
        statistics.read()


def broken_at(step, loss):
    """Return a task with one step whose loss is replaced by `loss` of the right one."""
    steps = []

    class BrokenTask(ReidTask):
        def losses(self, *arguments):
            steps.append(len(steps) + 1)
            values = super().losses(*arguments)
            return {"all": loss(sum(values.values()))} if steps[-1] == step else values

    task = build_task()
    task.__class__ = BrokenTask
    return task


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    with pytest.raises(UserError, match="the loss is nan at step 3: lower"):
        fit(
            broken_at(3, lambda loss: loss * torch.nan),
            build_network(),
            trainer_config(),
            EpochRecorder(),
        )


def test_a_gradient_that_is_not_finite_is_named_where_gradients_are_clipped():
    task = broken_at(2, lambda loss: (loss * 0).sqrt())
    clipping = trainer_config(optimizer={"max_grad_norm": 1.0})
    with pytest.raises(UserError, match="the norm of the gradient is nan at step 2: lower"):
        fit(task, build_network(), clipping, EpochRecorder())


def test_weights_that_are_not_finite_reach_no_checkpoint_of_an_epoch_without_validation():
    task = broken_at(6, lambda loss: (loss * 0).sqrt())
    assert task.steps_per_epoch == 6
    rare = replace(trainer_config(4), validation=replace(CONFIG.validation, every=3))
    recorder = EpochRecorder()
    with pytest.raises(UserError, match=r"weights .* are not finite after step 6: lower"):
        fit(task, build_network(), rare, recorder)
    assert recorder.records == []


def test_clipping_shortens_a_gradient_and_records_its_norm():
    task, network = build_task(), build_network()
    task.prepare(network)
    network.train()
    weights = [each for each in network.parameters() if each.requires_grad]
    plain_sgd = OptimizerConfig(name="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0)
    optimizer = build_optimizer(plain_sgd, network)
    before = [each.detach().clone() for each in weights]
    batch = next(iter(task.batches(0)))
    result = run_step(task, ForwardPass(network, CPU), optimizer, batch, max_grad_norm=0.01)
    moved = torch.cat([(b - w.detach()).flatten() for b, w in zip(before, weights, strict=True)])
    assert float(result.gradient_norm) > 0.1
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)
    recorder = EpochRecorder()
    fit(
        build_task(), build_network(), trainer_config(1, optimizer={"max_grad_norm": 9.0}), recorder
    )
    assert recorder.records[0]["gradient_norm"] > 0
    assert recorder.records[0]["loss"] == sum(
        value for name, value in recorder.records[0].items() if name.startswith("loss_")
    )


def test_bfloat16_covers_the_network_and_not_the_losses():
    seen = []

    class WatchedTask(ReidTask):
        def losses(self, network, batch):
            seen.extend((network(batch.crops), torch.is_autocast_enabled("cpu")))
            return super().losses(network, batch)

    task, network = build_task(), build_network()
    task.__class__ = WatchedTask
    task.prepare(network)
    inner = []
    network.dense[0].register_forward_hook(lambda _module, _inputs, output: inner.append(output))
    optimizer = build_optimizer(OptimizerConfig(), network)
    run_step(task, ForwardPass(network, CPU, bf16=True), optimizer, next(iter(task.batches(0))))
    assert inner[0].dtype == torch.bfloat16
    outputs, is_autocast = seen
    assert not is_autocast
    tensors = (outputs.embedding, outputs.metric_feature, outputs.identity, *outputs.attributes)
    assert {each.dtype for each in tensors} == {torch.float32}


def test_tf32_is_for_the_network_on_a_gpu_alone():
    before = torch.get_float32_matmul_precision()
    with tf32_products(GPU):
        assert torch.get_float32_matmul_precision() == "high"
        with full_precision(CPU):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    with tf32_products(CPU):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


def snapshot_of(network, *, fused, name="adamw"):
    optimizer = build_optimizer(OptimizerConfig(name=name), network)
    for group in optimizer.param_groups:
        group["fused"] = fused
    return TrainingSnapshot(network, optimizer)


def take_step(snapshot, seed):
    torch.manual_seed(seed)
    for parameter in snapshot.network.parameters():
        parameter.grad = torch.randn(parameter.shape).contiguous(
            memory_format=torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        )
    snapshot.optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("fused", [(True, None), (None, True)])
def test_a_checkpoint_passes_between_fused_and_plain_optimisers_and_layouts(fused, name, tmp_path):
    """A GPU has fused optimisers and channels-last weights, and a CPU neither."""

    def build(is_gpu):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        if is_gpu:
            network.to(memory_format=torch.channels_last)
        return snapshot_of(network, fused=is_gpu, name=name)

    whole, first = build(fused[0]), build(fused[0])
    for seed in (1, 2):
        take_step(whole, seed)
    take_step(first, 1)
    first.best_weights = copy_weights(first.network)
    first.save(tmp_path)
    assert all(each.is_contiguous() for each in read_best_weights(tmp_path).values())
    second = build(fused[1])
    second.restore(tmp_path)
    take_step(second, 2)
    for key, value in whole.network.state_dict().items():
        assert torch.allclose(value, second.network.state_dict()[key], atol=1e-6)
    for parameter, state in second.optimizer.state.items():
        layouts = {each.stride() for each in state.values() if each.shape == parameter.shape}
        assert layouts == {parameter.stride()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_compiled_training_learns_as_another_and_its_checkpoints_are_the_same(tmp_path):
    weights, losses = {}, {}
    for compiled in (False, True):
        recorder = Saver(tmp_path / str(compiled))
        config = trainer_config(1, compile=compiled)
        torch.manual_seed(0)
        network = build_model("apr", backbone="resnet_tiny", num_people=8, schema=SCHEMA, dropout=0)
        weights[compiled] = fit(build_task(), network, config, recorder).best_weights
        losses[compiled] = recorder.records[0]["loss"]
        assert recorder.records[0]["images_per_second"] > 0
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    assert weights[True].keys() == weights[False].keys()
    fresh = build_model("apr", backbone="resnet_tiny", num_people=8, schema=SCHEMA, dropout=0)
    resumed = fit(
        build_task(),
        fresh,
        trainer_config(1),
        EpochRecorder(),
        checkpoint=tmp_path / "True" / "1",
    )
    assert resumed.trainer_state.epoch == 1


class Saver(EpochRecorder):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, record, save):
        super().on_epoch_end(record, save)
        place = self.folder / str(record["epoch"])
        place.mkdir(parents=True)
        save(place)
