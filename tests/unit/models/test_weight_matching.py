"""Weights under the names of each project fill backbones, and reports tell which ones do."""

import copy
import json
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from support.paths import GOLDEN
from support.unpickled import convert
from torch import nn

from reidray.errors import UserError
from reidray.models import build_model
from reidray.models.weights import (
    WeightReport,
    WeightSource,
    load_weights,
    match_weights,
    read_weights,
)


def source(tensors, kind="torch.save"):
    whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    return WeightSource("weights.pth", kind, save(whole))


def filled(network, seed):
    """The network with other values everywhere, also in its statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return network


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def baseline(backbone, **settings):
    torch.manual_seed(0)
    sides = {"height": 64, "width": 32} | settings
    return build_model("baseline", backbone=backbone, num_people=5, **sides)


def names(notes):
    return [note.name for note in notes]


@pytest.fixture(scope="module")
def resnet():
    """A ResNet as torchvision, Torchreid, fast-reid and timm name its layers."""
    return filled(timm.create_model("test_resnet", num_classes=9), 1).state_dict()


def without_classifier(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    ("wrap", "file_names", "left_out"),
    [
        (lambda own: own, "*", ["fc.bias", "fc.weight"]),
        (lambda own: prefixed("state_dict.module.", own), "state_dict.module.*", None),
        (lambda own: prefixed("model.backbone.", without_classifier(own)), "model.backbone.*", []),
        (lambda own: prefixed("base.", without_classifier(own)), "base.*", []),
        (lambda own: prefixed("state_dict.model._orig_mod.", own), "state_dict.model._orig", None),
        (
            lambda own: prefixed("student.", own) | prefixed("teacher.", own),
            "teacher.*",
            None,
        ),
    ],
    ids=["plain", "Torchreid", "fast-reid", "strong baseline", "Lightning", "teacher"],
)
def test_a_resnet_in_any_wrapper_fills_the_backbone(resnet, wrap, file_names, left_out):
    network = baseline("test_resnet")
    report = load_weights(network, source(wrap(resnet)))
    for name, value in network.backbone.body.state_dict().items():
        assert torch.equal(value, resnet[name]), name
    assert report.match == 1
    assert report.file_names.startswith(file_names)
    assert report.network_names == "backbone.body.*"
    assert all(name.startswith(("neck.", "identity.")) for name in names(report.missing))
    if left_out is not None:
        assert sorted(names(report.left_out)) == left_out


def test_the_neck_of_fast_reid_and_of_the_strong_baseline_is_loaded_too(resnet):
    neck = filled(nn.BatchNorm1d(96), 3).state_dict()
    body = without_classifier(resnet)
    classes = torch.ones(751, 96)
    for tensors in (
        prefixed("model.backbone.", body)
        | prefixed("model.heads.bottleneck.0.", neck)
        | {"model.heads.weight": classes, "model.heads.pool_layer.p": torch.ones(1)},
        prefixed("base.", body) | prefixed("bottleneck.", neck) | {"classifier.weight": classes},
    ):
        network = baseline("test_resnet")
        report = load_weights(network, source(tensors), min_match=0.99)
        for name, value in network.neck.state_dict().items():
            assert torch.equal(value, neck[name]), name
        assert names(report.missing) == ["identity.weight"]
        assert {note.reason for note in report.left_out} <= {"a classifier", "a head"}


def test_fast_reids_ibn_network_fills_ours_with_its_pooling():
    """`bn1.IN` and `bn1.BN` of the blocks, and the exponent of the generalized mean."""
    with torch.device("meta"):
        network = baseline("resnet50_ibn_a", pooling="gem", last_stride=1)
    shapes = {name: value.shape for name, value in network.backbone.body.state_dict().items()}
    tensors = prefixed("model.backbone.", {name: torch.ones(each) for name, each in shapes.items()})
    assert "model.backbone.layer1.0.bn1.IN.weight" in tensors
    tensors |= {"model.heads.pool_layer.p": torch.tensor([2.5])}
    found = match_weights(network, source(tensors), min_match=0.99)
    assert found.values["backbone.pooling.exponent"] == 2.5
    assert found.report.match == 1
    assert all(name.startswith(("neck.", "identity.")) for name in names(found.report.missing))


def test_a_vit_of_transreid_has_its_positions_resized():
    """256x128 in overlapping patches, 21 x 10 of them, for a network of 64x32 in 4 x 2."""
    torch.manual_seed(0)
    network = baseline("test_vit")
    body = network.backbone.body
    width = body.embed_dim
    own = filled(timm.create_model("test_vit", num_classes=0), 2).state_dict()
    ramp = torch.arange(21.0).repeat_interleave(10) + 10 * torch.arange(10.0).repeat(21)
    grid = ramp[:, None].expand(210, width)
    own["pos_embed"] = torch.cat([torch.zeros(1, width), grid])[None]
    extra = {"sie_embed": torch.ones(6, 1, width), "fc.weight": torch.ones(1000, width)}
    tensors = prefixed("base.", own | extra)
    report = load_weights(network, source(tensors), min_match=0.9)
    assert torch.equal(body.blocks[0].attn.qkv.weight, own["blocks.0.attn.qkv.weight"])
    positions = body.pos_embed[0, 1:, 0].reshape(4, 2)
    assert (positions[1:] > positions[:-1]).all()
    assert (positions[:, 1] > positions[:, 0]).all()
    assert float(positions.detach().mean()) == pytest.approx(float(ramp.mean()), rel=0.05)
    assert names(report.changed) == ["backbone.body.pos_embed"]
    assert {"base.sie_embed", "base.fc.weight"} == set(names(report.left_out))


def transreid():
    """A small network with a jigsaw branch over patches that overlap."""
    sides = {"height": 64, "width": 32, "patch_stride": 12}
    labels = {"num_people": 5, "num_cameras": 6}
    return build_model("transreid", backbone="test_vit", camera_embedding=False, **sides, **labels)


def test_transreid_trains_a_copy_of_its_last_block_and_keeps_the_first_one_in_base():
    own = filled(timm.create_model("test_vit", num_classes=0), 2)
    trained, parts = filled(copy.deepcopy(own), 3), filled(copy.deepcopy(own), 4)
    file = prefixed("base.", own.state_dict())
    for branch, each in (("b1.", trained), ("b2.", parts)):
        file |= prefixed(f"{branch}0.", each.blocks[-1].state_dict())
        file |= prefixed(f"{branch}1.", each.norm.state_dict())
    necks = [filled(nn.BatchNorm1d(64), index).state_dict() for index in range(5)]
    for index, neck in enumerate(necks):
        file |= prefixed(f"bottleneck_{index}." if index else "bottleneck.", neck)
        file[f"classifier_{index}.weight"] = torch.ones(751, 64)
    network = transreid()
    report = load_weights(network, source(file))
    backbone = network.backbone
    assert torch.equal(backbone.body.blocks[4].norm1.weight, own.blocks[4].norm1.weight)
    assert torch.equal(backbone.body.blocks[5].attn.qkv.weight, trained.blocks[5].attn.qkv.weight)
    assert torch.equal(backbone.body.norm.bias, trained.norm.bias)
    assert torch.equal(backbone.part_block.attn.qkv.weight, parts.blocks[5].attn.qkv.weight)
    assert torch.equal(backbone.part_norm.bias, parts.norm.bias)
    for neck, expected in zip(network.necks, necks, strict=True):
        assert torch.equal(neck.running_mean, expected["running_mean"])
    assert report.match == 1
    assert all(name.startswith("identity.") for name in names(report.missing))
    assert {note.reason for note in report.left_out} == {"a classifier"}


def test_layers_that_begin_as_copies_copy_what_a_file_holds():
    own = filled(timm.create_model("test_vit", num_classes=0), 2)
    network = transreid()
    report = load_weights(network, source(own.state_dict()), min_match=0.99)
    part_block = network.backbone.part_block
    assert torch.equal(part_block.attn.qkv.weight, own.blocks[5].attn.qkv.weight)
    copied = {note.reason for note in report.changed if note.reason.startswith("copied")}
    assert copied == {"copied from backbone.body.blocks.5.*", "copied from backbone.body.norm.*"}


def test_patches_of_another_size_are_resized_and_a_distillation_token_is_dropped():
    network = baseline("test_vit")
    body = network.backbone.body
    own = filled(timm.create_model("test_vit", num_classes=0), 2).state_dict()
    patches = own["patch_embed.proj.weight"]
    own["patch_embed.proj.weight"] = torch.ones(*patches.shape[:2], 8, 8)
    tokens = torch.tensor([1.0, 2.0] + [5.0] * 16)
    own["pos_embed"] = tokens[None, :, None].expand(1, 18, body.embed_dim)
    report = load_weights(network, source(own))
    assert len(report.changed) == 2
    assert body.patch_embed.proj.weight.shape == patches.shape
    assert body.pos_embed[0, 0, 0] == 1
    assert torch.allclose(body.pos_embed[0, 1:], torch.tensor(5.0))


class UnfoldedMerging(nn.Module):
    """Merges patches as MMCV does: by `nn.Unfold`, then a normalisation and a dense layer."""

    def __init__(self, norm, reduction):
        super().__init__()
        self.norm, self.reduction = norm, reduction

    def forward(self, grid):
        patches = nn.functional.unfold(grid.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        height, width = grid.shape[1] // 2, grid.shape[2] // 2
        return self.reduction(self.norm(patches)).unflatten(1, (height, width))


def small_swin():
    """A Swin of four stages in timm, small enough to be fast."""
    return timm.models.swin_transformer.SwinTransformer(
        img_size=(64, 32), window_size=4, embed_dim=8, depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2), num_classes=0,
    )  # fmt: skip


def mmcv_names(tensors):
    """The names that SOLIDER's Swin, which is MMCV's, gives the weights of timm's."""
    renamed = {}
    for name, tensor in tensors.items():
        new = name.replace("patch_embed.proj.", "patch_embed.projection.")
        new = re.sub(r"^layers\.(\d)\.blocks", r"stages.\1.blocks", new)
        new = re.sub(
            r"^layers\.(\d)\.downsample",
            lambda found: f"stages.{int(found[1]) - 1}.downsample",
            new,
        )
        new = re.sub(r"\.attn\.", ".attn.w_msa.", new)
        new = new.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        new = re.sub(r"^norm\.", "norm3.", new)
        renamed[new] = tensor
    return renamed


class Wrapped(nn.Module):
    """A network of a plugin, whose backbone has a name of its own."""

    def __init__(self, body):
        super().__init__()
        self.trunk = body
        self.identity = nn.Linear(4, 2)


def test_solider_names_fill_a_swin_and_merged_patches_keep_their_meaning():
    body = filled(small_swin(), 5)
    tensors = mmcv_names(body.state_dict())
    for stage in range(3):
        for layer in ("norm.weight", "norm.bias", "reduction.weight"):
            name = f"stages.{stage}.downsample.{layer}"
            tensors[name] = torch.rand(tensors[name].shape)
    semantic = {"semantic_embed_w.0.weight": torch.ones(16, 2), "norm0.weight": torch.ones(8)}
    file = prefixed("student.module.backbone.", tensors | semantic)
    file |= prefixed("teacher.backbone.", tensors | semantic)
    file |= {"teacher.head.mlp.0.weight": torch.ones(2048, 64)}
    report = load_weights(network := Wrapped(small_swin()), source(file))
    assert report.file_names == "teacher.backbone.* (MMCV's Swin, as of SOLIDER)"
    assert report.network_names == "trunk.*"
    loaded = network.trunk
    for name, value in body.state_dict().items():
        if "downsample" not in name:
            assert torch.equal(loaded.state_dict()[name], value), name
    grid = torch.rand(2, 8, 4, 8)
    norm, reduction = nn.LayerNorm(32), nn.Linear(32, 16, bias=False)
    first = {k.removeprefix("stages.0.downsample."): v for k, v in tensors.items()}
    norm.load_state_dict({"weight": first["norm.weight"], "bias": first["norm.bias"]})
    reduction.load_state_dict({"weight": first["reduction.weight"]})
    expected = UnfoldedMerging(norm, reduction)(grid)
    assert torch.allclose(loaded.layers[1].downsample(grid), expected, atol=1e-5)
    assert any("semantic controller" in note for note in report.notes)


def test_the_swin_of_its_authors_merges_patches_a_stage_earlier():
    body = filled(small_swin(), 5).state_dict()
    tensors = {
        re.sub(r"layers\.(\d)\.downsample", lambda at: f"layers.{int(at[1]) - 1}.downsample", k): v
        for k, v in body.items()
    }
    tensors["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    network = Wrapped(small_swin())
    report = load_weights(network, source(prefixed("model.", tensors)))
    assert not report.left_out
    for name, value in network.trunk.state_dict().items():
        assert torch.equal(value, body[name]), name


@pytest.mark.filterwarnings("error")
def test_position_biases_of_another_window_are_resized_without_a_warning():
    tensors = filled(small_swin(), 5).state_dict()
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    tensors[name] = torch.full((13 * 13, 1), 3.0)
    network = Wrapped(small_swin())
    report = load_weights(network, source(tensors))
    assert names(report.changed) == [f"trunk.{name}"]
    assert torch.allclose(network.trunk.state_dict()[name], torch.tensor(3.0), atol=1e-4)


def test_a_model_of_ours_fills_the_same_network_and_the_backbone_of_another(tmp_path):
    donor = filled(build_model("baseline", backbone="resnet_tiny", num_people=7), 4)
    file = tmp_path / "model.safetensors"
    save_file(donor.state_dict(), file)
    same = build_model("baseline", backbone="resnet_tiny", num_people=7, weights=str(file))
    scaling = ("mean", "deviation")
    for name, value in same.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]) == (name not in scaling), name
    fewer = build_model("baseline", backbone="resnet_tiny", num_people=5)
    report = load_weights(fewer, read_weights(str(file)))
    assert torch.equal(fewer.neck.weight, donor.neck.weight)
    assert [(each.name, each.reason) for each in report.left_out if "identity" in each.name] == [
        ("identity.weight", "7x768 in the file and 5x768 here")
    ]
    assert report.match == 1
    other = build_model("apr", backbone="resnet_tiny", num_people=7, weights=str(file))
    for name, value in other.backbone.state_dict().items():
        assert torch.equal(value, donor.backbone.state_dict()[name])


def residual_network(blocks):
    block = timm.models.resnet.BasicBlock
    return timm.models.resnet.ResNet(block, (blocks,) * 4, num_classes=0, channels=(8, 8, 16, 16))


@pytest.mark.parametrize(("there", "here"), [(2, 1), (1, 2)])
def test_a_deeper_or_shallower_network_is_another_one(there, here):
    network, file = Wrapped(residual_network(here)), source(residual_network(there).state_dict())
    with pytest.raises(UserError, match=r"of the parameters .*choose the backbone") as caught:
        match_weights(network, file, min_match=0.9)
    assert "\n" not in str(caught.value)
    assert 0.3 < match_weights(network, file, min_match=0.3).report.match < 0.7


def test_a_classifier_is_no_example_of_what_does_not_match():
    tensors = residual_network(2).state_dict() | {"fc.weight": torch.ones(9, 16)}
    with pytest.raises(UserError, match=r"others do not, such as layer1\.1\.bn1\.bias \(the net"):
        match_weights(residual_network(1), source(tensors), min_match=0.9)


def test_weights_of_something_else_are_refused_whatever_the_least_share():
    with pytest.raises(UserError, match=r"0\.0% of the parameters match the backbone") as caught:
        load_weights(baseline("resnet_tiny"), source({"encoder.0.weight": torch.ones(4, 4)}))
    assert "\n" not in str(caught.value)


def test_a_first_convolution_of_other_channels_is_refused(resnet):
    tensors = resnet | {"conv1.0.weight": torch.ones(32, 1, 3, 3)}
    with pytest.raises(UserError, match=r"first convolution .*: give .* 3 channels"):
        load_weights(baseline("test_resnet"), source(tensors))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ([32], "is 32 in the file and 16x3x3x3 here: the one in the file is no convolution"),
        ([32, 3, 7, 7], "is 32x3x7x7 in the file and 16x3x3x3 here: choose the backbone"),
    ],
)
def test_a_first_convolution_of_another_shape_says_what_differs(resnet, shape, told):
    tensors = resnet | {"conv1.0.weight": torch.ones(shape)}
    with pytest.raises(UserError, match=rf"first convolution backbone\..*weight {told}") as caught:
        load_weights(baseline("test_resnet"), source(tensors))
    assert "channels" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(resnet):
    broken = resnet | {"layer1.0.conv1.weight": resnet["layer1.0.conv1.weight"] / 0}
    with pytest.raises(
        UserError, match=r"layer1\.0\.conv1\.weight holds values that are not finite"
    ):
        load_weights(baseline("test_resnet"), source(broken))


def test_pixels_that_a_model_scaled_otherwise_are_noted():
    donor = build_model("baseline", backbone="resnet_tiny", num_people=5)
    same = WeightSource("RUN/model", "model directory", save(donor.state_dict()))
    report = load_weights(baseline("resnet_tiny"), same)
    assert not report.notes
    assert not report.left_out, "the scaling of pixels is no weight"
    donor.mean.fill_(127.5)
    other = WeightSource("RUN/model", "model directory", save(donor.state_dict()))
    (note,) = load_weights(baseline("resnet_tiny"), other).notes
    assert "scaled otherwise" in note


def test_half_precision_is_loaded_as_float32(resnet):
    network = baseline("test_resnet")
    load_weights(network, source({name: each.half() for name, each in resnet.items()}))
    assert network.backbone.body.conv1[0].weight.dtype == torch.float32
    assert torch.allclose(
        network.backbone.body.conv1[0].weight, resnet["conv1.0.weight"], atol=1e-3
    )


def test_a_report_is_two_or_three_lines_and_returns_from_json(resnet):
    report = load_weights(baseline("test_resnet"), source(prefixed("state_dict.module.", resnet)))
    first, missing, left_out = report.lines()
    assert "100.0% match, 90 tensors with 372,688 parameters loaded" in first
    assert "state_dict.module.* as backbone.body.*" in first
    assert "neck.weight, neck.bias, neck.running_mean and 2 others (a head" in missing
    assert "state_dict.module.fc.bias, state_dict.module.fc.weight (a classifier)" in left_out
    assert WeightReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize("pooling", ["own", "gem"])
def test_torchreids_layers_after_the_pooling_are_a_head_of_a_network_without_them(pooling):
    with torch.device("meta"):
        donor = build_model("baseline", backbone="osnet_x0_25", num_people=5).backbone.body
        network = baseline("osnet_x0_25", pooling=pooling)
    tensors = {name: torch.ones(value.shape) for name, value in donor.state_dict().items()}
    report = match_weights(network, source(prefixed("module.", tensors)), min_match=0.99).report
    left_out = [] if pooling == "own" else [n for n in tensors if n.startswith("fc.")]
    unlearned = [n for n in left_out if not n.endswith("num_batches_tracked")]
    assert names(report.left_out) == sorted(f"module.{name}" for name in unlearned)


@pytest.mark.parametrize("name", ["osnet_x0_25", "osnet_ain_x0_25"])
def test_torchreid_checkpoints_give_torchreid_embeddings(name):
    checkpoint = GOLDEN / f"{name}_torchreid.pth.tar"
    if not checkpoint.is_file():
        pytest.skip(f"{checkpoint} is absent")
    answer, written = convert(checkpoint.read_bytes())
    assert answer == {}
    network = baseline(name).eval()
    report = load_weights(network, WeightSource(str(checkpoint), "torch.save", written))
    assert report.match == 1
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.standard_normal((4, 3, 256, 128)).astype("float32"))
    expected = np.load(GOLDEN / f"{name}_torchreid_embeddings.npz")["embedding"]
    with torch.inference_mode():
        found = network.backbone(images).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
