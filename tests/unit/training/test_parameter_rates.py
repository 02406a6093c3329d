"""Parameters have the rates and the weight decay of their layers, and rates follow a schedule."""

import pytest
import timm
import torch
from support.epoch_recorder import EpochRecorder
from support.line_task import LineTask, build_line_network, copy_state, trainer_config
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.models import build_model
from reidray.training.loop import fit
from reidray.training.steps.optimizers import build_optimizer, learning_rate, schedule_optimizer
from reidray.training.steps.parameter_groups import check_optimizer

META = torch.device("meta")


def factors_of(network, **settings):
    """Return the factor of the rate of each parameter by name."""
    optimizer = build_optimizer(OptimizerConfig(**settings), network)
    factors = {
        id(parameter): group["rate_factor"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    trainable = [item for item in network.named_parameters() if item[1].requires_grad]
    return {name: factors[id(each)] for name, each in trainable}


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224"]
)
def test_rates_by_layer_are_those_of_timm_below_a_head(name):
    with META:
        body = timm.create_model(name, num_classes=0)
    network = nn.Module()
    network.backbone, network.head = nn.Module(), nn.Linear(2, 2)
    network.backbone.body, network.backbone.pool = body, nn.Linear(2, 2, bias=False)
    factors = factors_of(network, layer_decay=0.75, head_rate_factor=2.0)
    names = {id(each): name for name, each in network.named_parameters()}
    for group in param_groups_layer_decay(body, layer_decay=0.75):
        for parameter in group["params"]:
            assert factors[names[id(parameter)]] == pytest.approx(0.75 * group["lr_scale"])
    assert factors["backbone.pool.weight"] == 0.75
    assert factors["head.weight"] == 2.0


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet_tiny", [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]),
        ("osnet_x0_25", [["conv1"], ["conv2"], ["conv3"], ["conv4"], ["conv5"], ["fc"]]),
        (
            "osnet_ain_x0_25",
            [["conv1"], ["conv2", "pool2"], ["conv3", "pool3"], ["conv4"], ["conv5"], ["fc"]],
        ),
    ],
)
def test_own_backbones_name_their_layers(backbone, layers):
    with META:
        network = build_model("baseline", backbone=backbone, num_people=3)
    factors = factors_of(network, layer_decay=0.5)
    for number, parts in enumerate(layers):
        names = [
            name for name in factors if name.startswith("backbone.") and name.split(".")[2] in parts
        ]
        expected = 0.5 ** (len(layers) - number)
        assert names
        assert {factors[name] for name in names} == {expected}
    assert {factors[name] for name in factors if not name.startswith("backbone.")} == {1.0}


def test_layers_of_a_sequence_are_its_children():
    with META:
        network = build_model("pets_mobilenet_dense", height=64, width=64)
    factors = factors_of(network, layer_decay=0.9)
    depth = len(network.backbone)
    assert factors["backbone.0.weight"] == pytest.approx(0.9**depth)
    assert factors[f"backbone.{depth - 1}.weight"] == 0.9
    assert factors["classifier.2.weight"] == 1.0


def test_a_step_moves_the_head_by_its_own_rate():
    moves = {}
    for factor in (1.0, 4.0):
        task, network = LineTask(), build_line_network()
        before = copy_state(network)
        settings = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0}
        config = trainer_config(1, head_rate_factor=factor, **settings)
        fit(task, network, config, EpochRecorder())
        moves[factor] = {name: task.seen[0][name] - before[name] for name in before}
    assert torch.allclose(moves[4.0]["head.weight"], 4 * moves[1.0]["head.weight"], rtol=1e-3)
    assert torch.equal(moves[4.0]["backbone.0.weight"], moves[1.0]["backbone.0.weight"])


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "xcit_nano_12_p16_224", "tiny_vit_5m_224"]
)
def test_positions_and_tokens_do_not_decay_as_in_timm(name):
    with META:
        body = timm.create_model(name, num_classes=0)
    network = nn.Module()
    network.backbone = body
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1), network)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    names = {id(each): name for name, each in body.named_parameters()}
    groups = param_groups_weight_decay(body, 0.1, no_weight_decay_list=body.no_weight_decay())
    for group in groups:
        for parameter in group["params"]:
            asked = group["weight_decay"] == 0 or names[id(parameter)].endswith(".temperature")
            assert decays[id(parameter)] == (0.0 if asked else 0.1), names[id(parameter)]
    assert any(
        group["weight_decay"] == 0 and each.ndim > 1 for group in groups for each in group["params"]
    )


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_one_cycle_is_that_of_pytorch(name):
    steps, config = 1000, OptimizerConfig(name=name, schedule="one_cycle", learning_rate=0.1)
    ours, theirs = (build_optimizer(config, nn.Linear(2, 2)) for _ in "ab")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=steps)
    for step in range(steps):
        schedule_optimizer(ours, config, step / (steps - 1))
        for one, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert one["lr"] == pytest.approx(other["lr"], abs=5e-4)
            key = "betas" if name == "adamw" else "momentum"
            assert one[key] == pytest.approx(other[key], abs=5e-4)
        theirs.step()
        scheduler.step() if step < steps - 1 else None
    assert learning_rate(config, 0.0) == pytest.approx(0.1 / 25)
    assert learning_rate(config, 0.3) == 0.1
    assert learning_rate(config, 1.0) == pytest.approx(0.1 / 25e4)


def test_one_cycle_adds_no_momentum_to_an_optimiser_without_it():
    config = OptimizerConfig(name="sgd", momentum=0.0, schedule="one_cycle")
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    schedule_optimizer(optimizer, config, 0.5)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.0}


@pytest.mark.parametrize(
    "settings", [{"layer_decay": 0.5}, {"freeze_backbone": 0.1}, {"head_rate_factor": 2.0}]
)
def test_a_network_without_a_backbone_is_refused_with_the_field(settings):
    with META:
        network = build_model("vgg_triplet_rgb")
    (field,) = settings
    with pytest.raises(UserError, match=f"`optimizer.{field}` needs a network with a backbone"):
        check_optimizer(OptimizerConfig(**settings), network)
    check_optimizer(OptimizerConfig(), network)


def test_a_backbone_without_layers_or_without_a_head_is_refused():
    network = nn.Module()
    network.backbone = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"names no layers, which `optimizer.layer_decay` needs"):
        check_optimizer(OptimizerConfig(layer_decay=0.5), network)
    with pytest.raises(UserError, match=r"`optimizer.freeze_backbone` leaves nothing to train"):
        check_optimizer(OptimizerConfig(freeze_backbone=0.5), network)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("layer_decay", (0.0, 1.1, float("nan"))),
        ("freeze_backbone", (-0.1, 1.0)),
        ("head_rate_factor", (0.0, 101.0)),
        ("ema_decay", (0.0, 1.0)),
    ],
)
def test_values_beyond_the_limits_are_refused(field, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`optimizer.{field}` must be"):
            OptimizerConfig(**{field: value})
