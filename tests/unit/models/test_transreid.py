"""The vision transformer of TransReID, whose parts are switched on and off."""

from dataclasses import replace
from functools import cache

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.synthetic_people import CONFIG, build_task

from reidray.config import NetworkConfig, OptimizerConfig, TrainReidConfig
from reidray.config.sections.loss_options import LossConfig
from reidray.errors import UserError
from reidray.losses import LossSizes, Targets, batch_hard_triplet_loss, build_losses, compute_loss
from reidray.models import Outputs, build_architecture, build_model
from reidray.models.backbones.reid_transformer import split_into_parts
from reidray.models.factory import build_without_memory
from reidray.models.inference_network import copy_for_inference
from reidray.training.steps.parameter_groups import group_parameters

WIDTH = 192
OFF = {"patch_stride": 16, "camera_embedding": False, "jigsaw": False}
CAMERAS = torch.tensor([0, 1, 1, -1])


def transreid(**options):
    torch.manual_seed(0)
    small = {"backbone": "vit_tiny_patch16_224", "height": 64, "width": 48, "drop_path": 0.0}
    labels = {"num_people": 3, "num_cameras": 2}
    return build_model("transreid", **(small | labels | options))


@cache
def evaluated():
    """Return a network in evaluation mode, which several tests share and none changes."""
    return transreid().eval()


def crops(count, height=64, width=48):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def test_with_everything_off_it_is_the_transformer_of_timm_before_a_neck():
    network = transreid(**OFF).eval()
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=(64, 48), num_classes=0).eval()
    theirs.load_state_dict(network.backbone.body.state_dict())
    pixels = theirs.pretrained_cfg
    mean, deviation = (torch.tensor(pixels[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        outputs = network(crops(2))
        expected = theirs((crops(2) / 255 - mean) / deviation)
        assert torch.allclose(outputs.embedding, expected, atol=1e-4)
        assert torch.equal(outputs.metric_feature, outputs.embedding)
        logits = network.identity[0](network.necks[0](outputs.embedding))
    assert torch.allclose(outputs.identity, logits, atol=1e-6)


def test_patches_overlap_by_what_the_stride_leaves():
    body = transreid(patch_stride=12).backbone.body
    assert body.patch_embed.grid_size == (5, 3)  # 64 = 16 + 4 x 12, 48 = 16 + 2 x 12 and 8 pixels
    assert body.pos_embed.shape == (1, 1 + 15, WIDTH)
    image = torch.zeros(1, 3, 64, 48)
    image[..., 12:16, :16] = 1  # the rows that the first two patches of the first column share
    tokens = body.patch_embed(image) - body.patch_embed(torch.zeros_like(image))
    assert tokens.abs().sum(dim=2).nonzero()[:, 1].tolist() == [0, 1, 3, 4]


def test_parts_take_every_second_patch_of_both_halves_after_the_shift():
    # The tokens of an image, the class token first, go through the steps of the published code.
    for tokens in (1 + 18, 1 + 19):
        shifted = [*range(5, tokens), *range(1, 5)]
        shifted += shifted[-2:-1] if len(shifted) % 2 else []
        middle = len(shifted) // 2
        halves = shifted[:middle], shifted[middle:]
        shuffled = [token - 1 for pair in zip(*halves, strict=True) for token in pair]
        parts = split_into_parts(torch.arange(tokens - 1.0).view(1, -1, 1))
        assert parts.view(4, 4).tolist() == [shuffled[start : start + 4] for start in (0, 4, 8, 12)]


@pytest.mark.parametrize("off", [{}, {"jigsaw": False}, {"camera_embedding": False}])
def test_a_step_gives_each_weight_a_gradient(off):
    network = transreid(drop_path=0.1, **off)
    losses = TrainReidConfig(data="crops").loss.parts
    modules = build_losses(losses, LossSizes(3, network.embedding_size, network.metric_size))
    outputs = network(crops(4), CAMERAS)
    targets = Targets(torch.tensor([0, 0, 1, 1]), torch.zeros(4, 0, dtype=torch.int64))
    values = [compute_loss(loss, outputs, targets) for loss in modules.values()]
    sum(value for value in values if value is not None).backward()
    weights = {name: each for name, each in network.named_parameters() if each.requires_grad}
    assert ("backbone.camera_vectors" in weights) == ("camera_embedding" not in off)
    assert [name for name, weight in weights.items() if weight.grad is None] == []


def test_losses_count_the_whole_image_as_much_as_all_parts():
    network = transreid()
    outputs, people = network(crops(4), CAMERAS), torch.tensor([0, 0, 1, 1])
    losses = build_losses(TrainReidConfig(data="crops").loss.parts, LossSizes(3, WIDTH))
    targets = Targets(people, torch.zeros(4, 0, dtype=torch.int64))
    assert len(outputs.parts) == 4
    triplets = [
        batch_hard_triplet_loss(each.metric_feature, people, margin=0.3)
        for each in (outputs, *outputs.parts)
    ]
    expected = triplets[0] / 2 + sum(triplets[1:]) / 8
    assert torch.allclose(compute_loss(losses["triplet"], outputs, targets), expected)
    entropies = [losses["identity"](each, targets) for each in (outputs, *outputs.parts)]
    expected = entropies[0] / 2 + sum(entropies[1:]) / 8
    assert torch.allclose(compute_loss(losses["identity"], outputs, targets), expected)


def test_classifiers_with_a_margin_take_the_features_behind_the_necks():
    network = transreid()
    for neck in network.necks:
        torch.nn.init.uniform_(neck.weight)
    outputs = network(crops(4), CAMERAS)
    before = [each.metric_feature for each in (outputs, *outputs.parts)]
    whole, *parts = (neck(each) for neck, each in zip(network.necks, before, strict=True))
    expected = torch.cat([whole, *(part / 4 for part in parts)], dim=1)
    targets = Targets(torch.tensor([0, 0, 1, 1]), torch.zeros(4, 0, dtype=torch.int64))
    options = LossConfig(arcface={"weight": 1.0}).parts["arcface"]
    loss = build_losses({"arcface": options}, LossSizes(3, network.embedding_size))["arcface"]
    behind = Outputs(expected, outputs.metric_feature, outputs.identity, ())
    assert torch.allclose(compute_loss(loss, outputs, targets), loss(behind, targets))
    assert not torch.allclose(outputs.embedding, expected, atol=1e-2)


def test_an_image_without_a_camera_gets_the_mean_of_the_cameras():
    network = transreid().eval()
    with torch.no_grad():
        network.backbone.camera_vectors.normal_()
        unknown = network(crops(4), torch.full((4,), -1)).embedding
        without = network(crops(4)).embedding
        first, second = (network(crops(4), torch.full((4,), camera)).embedding for camera in (0, 1))
        assert torch.allclose(unknown, without, atol=1e-5)
        assert not torch.allclose(first, second, atol=1e-2)
        network.backbone.camera_vectors[:] = network.backbone.camera_vectors.mean(dim=0)
        assert torch.allclose(network(crops(4), CAMERAS).embedding, without, atol=1e-4)


def test_a_training_step_moves_the_vectors_of_the_cameras_of_its_images():
    options = {"height": 32, "width": 16, "patch_stride": 4}
    task = build_task(replace(CONFIG, network=NetworkConfig(name="transreid", **options)))
    network = transreid(num_people=8, num_cameras=2, **options)
    task.prepare(network)
    batch = next(task.batches(0))
    assert sorted(set(batch.camera_indices.tolist())) == [0, 1]
    sum(task.losses(network, batch).values()).backward()
    assert (network.backbone.camera_vectors.grad.abs().sum(dim=1) > 0).all()
    assert task.validate(network.eval())["mean_ap"] > 0


def test_one_camera_needs_no_vector():
    assert transreid(num_cameras=1).backbone.camera_vectors is None


def test_weights_of_a_transformer_fill_the_block_of_the_parts_too(tmp_path):
    torch.manual_seed(1)
    pretrained = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(pretrained.state_dict(), tmp_path / "vit.safetensors")
    backbone = transreid(weights=str(tmp_path / "vit.safetensors")).backbone
    last = pretrained.blocks[-1].state_dict()
    for block in (backbone.body.blocks[-1], backbone.part_block):
        assert all(torch.equal(value, last[name]) for name, value in block.state_dict().items())
    assert torch.equal(backbone.body.pos_embed[:, 0], pretrained.pos_embed[:, 0])
    assert backbone.body.pos_embed.shape == (1, 1 + 15, WIDTH)


@pytest.mark.parametrize("sides", [(64, 48), (128, 64)])  # an odd and an even number of patches
def test_the_images_beside_a_crop_do_not_change_its_embedding(sides):
    network = transreid(height=sides[0], width=sides[1]).eval()
    images = crops(3, *sides)
    with torch.inference_mode():
        together = network(images).embedding
        alone = torch.cat([network(image[None]).embedding for image in images])
    assert together.shape == (3, 5 * WIDTH)
    assert torch.allclose(together, alone, atol=1e-4)


def test_it_embeds_in_bfloat16():
    network = evaluated()
    with torch.inference_mode():
        expected = network(crops(2)).embedding
        found = copy_for_inference(network, torch.device("cpu"), "bf16")(crops(2)).embedding
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("backbone", "width"),
    [
        ("deit_tiny_distilled_patch16_224", 192),
        ("deit3_small_patch16_224", 384),
        ("vit_small_patch14_reg4_dinov2", 384),
        ("vit_base_patch16_clip_224", 768),
    ],
)
def test_transformers_with_more_tokens_and_other_norms_have_parts_too(backbone, width):
    labels = {"num_people": 3, "num_cameras": 2}
    architecture = build_architecture("transreid", backbone=backbone, **labels)
    network = build_without_memory(architecture)
    images = torch.zeros(2, 3, 256, 128, device="meta")
    outputs = network(images, torch.zeros(2, dtype=torch.int64, device="meta"))
    assert outputs.embedding.shape == (2, 5 * width)
    assert [part.identity.shape for part in outputs.parts] == [(2, 3)] * 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"backbone": "resnet18"}, "choose a vision transformer of timm with a class token"),
        ({"backbone": "resnet_tiny"}, "choose a vision transformer of timm with a class token"),
        ({"backbone": "vit_tinny_patch16_224"}, "did you mean 'vit_tiny_patch16_224'"),
        ({"patch_stride": 17}, "`network.patch_stride` 17 leaves pixels.*: use 16 or less"),
        ({"height": 16, "width": 27}, "have 1 patches, and `network.jigsaw` needs 4"),
        ({"backbone": "vit_tiny_r_s16_p8_224"}, "choose a vision transformer"),
        ({"backbone": "vit_base_patch32_224", "height": 16}, "smaller than its patches: use 32x32"),
    ],
)
def test_what_cannot_be_built_is_a_mistake(options, complaint):
    with pytest.raises(UserError, match=complaint):
        transreid(**options)


def test_the_vectors_of_cameras_do_not_decay_as_position_embeddings_do_not():
    network = evaluated()
    groups = group_parameters(OptimizerConfig(weight_decay=0.1), network)
    plain = {id(each) for group in groups if not group["weight_decay"] for each in group["params"]}
    backbone = network.backbone
    assert {id(backbone.camera_vectors), id(backbone.body.pos_embed)} <= plain
    assert id(network.identity[0].weight) not in plain
