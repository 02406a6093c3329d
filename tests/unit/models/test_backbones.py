"""Any timm model trains as a backbone at any size that it can take, pooled in several ways."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from reidray.config.options.person_networks import BackboneOptions
from reidray.errors import UserError
from reidray.models import build_model
from reidray.models.backbones import Backbone, check_backbones
from reidray.models.backbones.pooling import GeneralizedMeanPooling
from reidray.models.factory import build_architecture, build_without_memory


def backbone(name, weights="none", **options):
    return Backbone(BackboneOptions(backbone=name, height=64, width=32, **options), weights).eval()


def baseline(name, **options):
    settings = {"height": 64, "width": 32, "num_people": 3}
    return build_model("baseline", backbone=name, **(settings | options))


@pytest.mark.parametrize("power", [1.0, 3.0, 6.5])
def test_gem_is_the_mean_of_powers_of_each_channel(power):
    grid = torch.rand(2, 5, 4, 3) - 0.2
    pooling = GeneralizedMeanPooling(channels_last=False, prefix_tokens=0)
    nn.init.constant_(pooling.exponent, power)
    expected = [
        [
            float(sum(max(float(value), 1e-6) ** power for value in values.flatten()) / 12)
            ** (1 / power)
            for values in image
        ]
        for image in grid
    ]
    assert torch.allclose(pooling(grid), torch.tensor(expected), atol=1e-6)


def test_gem_learns_its_exponent_and_its_input_also_where_a_channel_is_all_zeros():
    grid = torch.rand(2, 5, 4, 3)
    grid[:, 0] = 0
    grid.requires_grad_()
    pooling = GeneralizedMeanPooling(channels_last=False, prefix_tokens=0)
    pooling(grid).square().sum().backward()
    assert pooling.exponent.grad.abs() > 0
    assert grid.grad.isfinite().all()
    assert (grid.grad[:, 1:] > 0).all()


def test_average_pooling_of_a_resnet_is_its_own():
    torch.manual_seed(1)
    own = backbone("test_resnet")
    torch.manual_seed(1)
    average = backbone("test_resnet", pooling="avg")
    images = torch.rand(2, 3, 64, 32)
    assert torch.allclose(average(images), own(images), atol=1e-6)


def test_average_pooling_of_a_transformer_leaves_its_class_token_out():
    transformer = backbone("test_vit", pooling="avg")
    images = torch.rand(2, 3, 64, 32)
    tokens = transformer.body.forward_features(images)
    assert tokens.shape[1] == 1 + 4 * 2
    assert torch.allclose(transformer(images), tokens[:, 1:].mean(dim=1), atol=1e-6)


def test_average_pooling_of_stripes_is_that_of_the_whole_grid():
    torch.manual_seed(1)
    stripes = backbone("resnet_tiny")
    torch.manual_seed(1)
    whole = backbone("resnet_tiny", pooling="avg")
    images = torch.rand(2, 3, 64, 32)
    grid = stripes.body.forward_features(images)
    assert whole.num_features == 192
    assert torch.allclose(whole(images), adaptive_avg_pool2d(grid, 1).flatten(1), atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "gem"])
@pytest.mark.parametrize(
    "name",
    [
        "resnet_tiny",
        "resnet_nano_patch",
        "osnet_x0_25",
        "test_vit",
        "mobilenetv3_small_050",
        "test_nfnet",
    ],
)
def test_every_weight_of_a_pooled_backbone_learns(name, pooling):
    network = backbone(name, pooling=pooling).train()
    features = network(torch.rand(2, 3, 64, 32))
    assert network.num_features == features.shape[1]
    features.square().sum().backward()
    assert [key for key, each in network.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "resnet26d", "resnetblur50", "seresnext26t_32x4d"])
def test_a_last_stride_of_1_doubles_the_last_grid_without_other_weights(name):
    with torch.device("meta"):
        before, after = backbone(name), backbone(name, last_stride=1)
        grid = before.body.forward_features(torch.zeros(1, 3, 64, 32))
        finer = after.body.forward_features(torch.zeros(1, 3, 64, 32))
    assert grid.shape[2:] == (2, 1)
    assert finer.shape[2:] == (4, 2)
    assert before.state_dict().keys() == after.state_dict().keys()


def test_resnet50_ibn_has_instance_norm_in_all_stages_but_the_last():
    architecture = build_architecture("baseline", backbone="resnet50_ibn_a", num_people=3)
    network = build_without_memory(architecture)
    with torch.device("meta"):
        plain = timm.create_model("resnet50", num_classes=0)
    body = network.backbone.body
    assert sum(each.numel() for each in body.parameters()) == 23_508_032
    assert {key.split(".")[0] for key in body.state_dict() if ".IN." in key} == {
        "layer1",
        "layer2",
        "layer3",
    }
    assert set(plain.state_dict()) - set(body.state_dict()) == {
        f"{block}.bn1.{value}"
        for block in (f"layer{n}.{i}" for n, size in ((1, 3), (2, 4), (3, 6)) for i in range(size))
        for value in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_half_of_the_channels_do_not_change_with_the_contrast_of_an_image():
    body = backbone("resnet50_ibn_a").body
    normalisation = body.layer1[0].bn1.eval()
    nn.init.normal_(normalisation.IN.weight)
    grid = torch.randn(2, 64, 8, 4)
    changed = normalisation(5 * grid + 3)
    assert torch.allclose(changed[:, :32], normalisation(grid)[:, :32], atol=1e-4)
    assert not torch.allclose(changed[:, 32:], normalisation(grid)[:, 32:], atol=1e-1)


def test_pixels_are_scaled_as_the_pretrained_weights_of_the_backbone_expect():
    network = baseline("test_vit")
    assert network.pixels.mean == (0.5, 0.5, 0.5)
    grey = network.scale(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert torch.allclose(grey, torch.ones(1, 3, 2, 2))
    assert baseline("resnet_tiny").pixels.mean == (0.485, 0.456, 0.406)
    assert baseline("resnet_tiny").pixels.deviation == (0.229, 0.224, 0.225)


def test_a_trained_network_keeps_the_pixel_scaling_that_it_was_trained_with():
    network, trained = baseline("test_vit"), baseline("test_vit").state_dict()
    trained["mean"] = baseline("resnet_tiny").mean
    network.load_state_dict(trained)
    assert network.pixels.mean == (0.485, 0.456, 0.406)
    assert network.pixels.deviation == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        (
            "test_vit",
            {"height": 70},
            r"its patches are 16x16 pixels\): use `network.height=64` and",
        ),
        (
            "mixer_s32_224",
            {"height": 70, "width": 64},
            r"its patches are 32x32 pixels\): use `network.height=64` and `network.width=64`",
        ),
        (
            "resnet50_ibn_a",
            {"height": 16, "width": 16},
            "cannot take images of 16x16 pixels .*use `network.height=28` and `network.width=28`",
        ),
        ("efficientvit_b0", {"pooling": "gem"}, "use `network.pooling=own`"),
        ("test_vit", {"last_stride": 1}, "is no ResNet.*use `network.last_stride=2`"),
    ],
)
def test_what_a_backbone_cannot_take_is_one_line_that_says_what_it_can(name, options, complaint):
    with pytest.raises(UserError, match=complaint) as caught, torch.device("meta"):
        check_backbones(baseline(name, **options))
    assert "\n" not in str(caught.value)


def test_a_backbone_that_takes_its_images_passes():
    network = baseline("test_vit")
    check_backbones(network)
    assert network.training
