"""The networks of the reports, to the last parameter."""

from functools import cache

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from reidray.errors import UserError
from reidray.models import NETWORKS, Outputs, PetOutputs, build_architecture, build_model
from reidray.models.networks.clothing import CLOTHING_SCHEMA

TRIPLET = ["vgg_triplet_rgb", "vgg_triplet_gray"]
PETS = sorted(name for name in NETWORKS if name.startswith("pets_"))
MASKED = [name for name in PETS if name != "pets_mobilenet_dense"]
ALL = [*TRIPLET, *PETS, "attributes_vgg"]


def images(name, count=2):
    """Noise of the size that a network is described with."""
    architecture = build_architecture(name)
    random = torch.Generator().manual_seed(0)
    size = (count, 3, architecture.height, architecture.width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=random)


def made(name, **overrides):
    torch.manual_seed(0)
    return build_model(name, **overrides)


@cache
def evaluated(name):
    """A network in evaluation mode, which several tests share."""
    return made(name).eval()


def counts(module):
    """Total and trainable parameters, as Keras counts them."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    statistics = sum(m.running_mean.numel() + m.running_var.numel() for m in norms)
    return trainable + statistics, trainable


def layer_counts(module):
    """Parameters of each layer that has any, in order."""
    layers = [counts(layer)[0] for layer in module.modules() if not list(layer.children())]
    return [parameters for parameters in layers if parameters]


def everything(outputs):
    """All tensors that a network gives."""
    if isinstance(outputs, PetOutputs):
        return [outputs.classes, outputs.masks, outputs.features]
    return [outputs.embedding, outputs.metric_feature, outputs.identity, *outputs.attributes]


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [
        ("vgg_triplet_rgb", 302_653, 302_205),
        ("vgg_triplet_gray", 1_076_344, 1_075_720),
        ("pets_scratch_transpose", 1_412_454, 1_412_454),
        ("pets_scratch_upsample", 2_432_742, 2_432_742),
        ("pets_scratch_deep", 2_626_502, 2_626_502),
        ("pets_autoencoder", 640_438, 640_438),
        ("pets_mobilenet_upsample", 2_287_382, 2_275_270),
        ("pets_mobilenet_transpose", 1_296_854, 1_285_894),
        ("attributes_vgg", 8_340_870, 8_340_630),
    ],
)
def test_a_network_has_as_many_parameters_as_its_report_says(name, total, trainable):
    assert counts(made(name)) == (total, trainable)


@pytest.mark.parametrize(
    ("name", "backbone", "classifier", "decoder"),
    [
        ("pets_scratch_transpose", 93_248, [1_212_453], [65_664, 32_832, 8_224, 33]),
        ("pets_scratch_upsample", 93_248, [2_097_216, 2_405], [147_584, 73_792, 18_464, 33]),
        ("pets_scratch_deep", 287_008, [2_097_216, 2_405], [147_584, 73_792, 18_464, 33]),
        ("pets_mobilenet_transpose", 936_816, [21_349], [295_040, 32_832, 8_224, 2_064, 520, 9]),
        ("pets_mobilenet_upsample", 939_120, [589_888, 2_405], [663_680, 73_792, 18_464, 33]),
        ("pets_mobilenet_dense", 936_816, [590_848, 1_049_600, 524_800, 18_981], []),
    ],
)
def test_the_layers_of_a_pets_network_are_those_its_report_lists(
    name, backbone, classifier, decoder
):
    network = made(name)
    assert counts(network.backbone)[0] == backbone
    assert layer_counts(network.classifier) == classifier
    assert (layer_counts(network.decoder) if network.decoder else []) == decoder


@pytest.mark.parametrize(("name", "size"), [("vgg_triplet_rgb", 301), ("vgg_triplet_gray", 32)])
def test_a_triplet_network_embeds_on_the_unit_sphere(name, size):
    network = made(name).eval()
    outputs = network(images(name, count=5))
    assert outputs.embedding.shape == (5, size)
    assert network.embedding_size == size
    torch.testing.assert_close(outputs.embedding.norm(dim=1), torch.ones(5))
    assert torch.equal(outputs.metric_feature, outputs.embedding)
    assert outputs.identity.shape == (5, 0)
    assert outputs.attributes == ()


def test_the_layers_of_the_vgg_networks_stand_in_the_order_of_their_reports():
    def kinds(module):
        return [type(m).__name__ for m in module.modules() if not list(m.children())]

    normalised = ["Conv2d", "BatchNorm2d", "SiLU"]
    block = [*normalised, *normalised, "MaxPool2d"]
    assert kinds(made("vgg_triplet_rgb")) == [*block, *block, *block, "Flatten", "Linear"]
    block = ["Conv2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Dropout2d"]
    blocks = [*block, "MaxPool2d", *block, "MaxPool2d", *block]
    dense = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(made("vgg_triplet_gray")) == [*blocks, "Flatten", *dense]
    block = ["Conv2d", "ReLU", "Conv2d", "Dropout2d", "BatchNorm2d", "ReLU"]
    features = [*block, *3 * ["MaxPool2d", *block], "Flatten"]
    assert kinds(made("attributes_vgg").blocks) == features


def test_swish_can_be_replaced_by_relu():
    assert counts(made("vgg_triplet_rgb", activation="relu")) == (302_653, 302_205)
    torch.manual_seed(0)
    swish, relu = (made("vgg_triplet_rgb", activation=name).eval() for name in ("swish", "relu"))
    relu.load_state_dict(swish.state_dict())
    crops = images("vgg_triplet_rgb")
    assert not torch.allclose(relu(crops).embedding, swish(crops).embedding, atol=1e-3)


def test_torso_and_legs_share_a_dense_layer_each_where_the_options_say_so():
    network = made("attributes_vgg", shared_dense=True)
    dense, classifiers = 5_376 * 256 + 256, 7_710
    assert counts(network)[1] == 73_608 + 240 + 4 * dense + classifiers
    outputs = network.train(False)(images("attributes_vgg")).attributes
    assert [logits.shape[1] for logits in outputs] == [2, 2, 11, 2, 11, 2]
    network.dense[1][0].weight.data.zero_()  # the torso's, after that of the gender
    changed = network(images("attributes_vgg")).attributes
    assert [not torch.equal(a, b) for a, b in zip(outputs, changed, strict=True)] == [
        *(False, True, True, False, False, False)
    ]


@pytest.mark.parametrize("name", ["vgg_triplet_gray", "attributes_vgg"])
def test_a_fifth_of_the_channels_is_dropped_or_what_is_asked_for(name):
    for dropout, overrides in ((0.2, {}), (0.4, {"dropout": 0.4})):
        layers = [m for m in made(name, **overrides).modules() if isinstance(m, nn.Dropout2d)]
        assert {layer.p for layer in layers} == {dropout}


def test_a_grey_network_sees_luminance_alone():
    network = made("vgg_triplet_gray").eval()
    crops = images("vgg_triplet_gray").float()
    grey = 0.299 * crops[:, 0] + 0.587 * crops[:, 1] + 0.114 * crops[:, 2]
    of_grey = network(grey.unsqueeze(1).expand(-1, 3, -1, -1)).embedding
    torch.testing.assert_close(network(crops).embedding, of_grey)
    assert not torch.allclose(network(crops.flip(1)).embedding, of_grey, atol=1e-4)


def test_the_attributes_network_answers_six_questions():
    outputs = made("attributes_vgg").eval()(images("attributes_vgg"))
    assert isinstance(outputs, Outputs)
    assert CLOTHING_SCHEMA.names == (
        "gender",
        "torso_type",
        "torso_colour",
        "leg_type",
        "leg_colour",
        "luggage",
    )
    assert [tuple(values.shape) for values in outputs.attributes] == [
        (2, values) for values in (2, 2, 11, 2, 11, 2)
    ]
    assert outputs.embedding.shape == outputs.identity.shape == (2, 0)


@pytest.mark.parametrize("name", PETS)
def test_a_pets_network_gives_37_classes_and_as_many_as_it_is_told(name):
    assert evaluated(name)(images(name)).classes.shape == (2, 37)
    assert made(name, num_classes=3).eval()(images(name)).classes.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("pets_scratch_transpose", 32_768),
        ("pets_scratch_upsample", 64),
        ("pets_scratch_deep", 64),
        ("pets_autoencoder", 16_384),
        ("pets_mobilenet_transpose", 576),
        ("pets_mobilenet_upsample", 64),
        ("pets_mobilenet_dense", 512),
    ],
)
def test_the_features_of_a_pets_network_are_what_its_last_layer_reads(name, length):
    network = evaluated(name)
    outputs = network(images(name))
    assert outputs.features.shape == (2, length)
    torch.testing.assert_close(network.classifier[-1](outputs.features), outputs.classes)
    assert not torch.equal(outputs.features[0], outputs.features[1])


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_is_as_large_as_its_image(name):
    crops = images(name)
    assert evaluated(name)(crops).masks.shape == (2, 1, *crops.shape[2:])
    wide = torch.zeros(2, 3, 64, 96)
    assert made(name, height=64, width=96).eval()(wide).masks.shape == (2, 1, 64, 96)


def test_a_network_without_masks_says_so_with_no_channel():
    outputs = evaluated("pets_mobilenet_dense")(images("pets_mobilenet_dense"))
    assert outputs.masks.shape == (2, 0, 128, 128)


@pytest.mark.parametrize("name", MASKED)
def test_heads_give_logits_of_either_sign(name):
    outputs = evaluated(name)(images(name))
    for logits in (outputs.classes, outputs.masks):
        assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", ALL)
def test_whole_numbers_and_fractions_are_the_same_pixels(name):
    network, crops = evaluated(name), images(name)
    with torch.inference_mode():
        for whole, fraction in zip(
            everything(network(crops)), everything(network(crops.float())), strict=True
        ):
            assert torch.equal(whole, fraction)


@pytest.mark.parametrize("name", [*TRIPLET, "pets_scratch_upsample", "attributes_vgg"])
def test_a_report_network_scales_pixels_to_0_to_1(name):
    scaled = made(name).scale(torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 3, 1, 3))
    torch.testing.assert_close(scaled[0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_learns(name):
    network = made(name)
    results = everything(network(images(name, count=3)))
    random = torch.Generator().manual_seed(1)
    sum((torch.randn(r.shape, generator=random) * r).sum() for r in results).backward()
    # A bias ahead of a batch normalisation has a gradient, and it is 0.
    stuck = [
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or (parameter.dim() > 1 and not parameter.grad.any())
    ]
    assert stuck == []


@pytest.mark.parametrize("name", ["pets_scratch_transpose", "pets_mobilenet_upsample"])
def test_weights_start_as_keras_draws_them(name):
    network = made(name)
    weights = [network.classifier[1].weight, network.decoder[0].weight]
    for weight in weights:
        fans = (weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()
        limit = (6 / fans) ** 0.5
        assert 0.99 * limit < weight.abs().max() <= limit
    assert not network.classifier[1].bias.any()
    assert not network.decoder[0].bias.any()


@pytest.mark.parametrize(
    ("name", "overrides", "complaint"),
    [
        ("vgg_triplet_rbg", {}, "did you mean 'vgg_triplet_rgb'"),
        ("vgg_triplet_rgb", {"num_classes": 3}, "has no num_classes: it has height, width, emb"),
        ("pets_autoencoder", {"backbone": "resnet50"}, "has no backbone"),
        ("baseline", {"feature_size": 16}, "has no feature_size"),
        ("vgg_triplet_rgb", {"embedding_size": 0}, "`network.embedding_size` must lie in 1..65536"),
        (
            "pets_autoencoder",
            {"height": "tall"},
            "`network.height` 'tall': expected a whole number",
        ),
        ("pets_autoencoder", {"num_classes": True}, "num_classes True: expected a whole number"),
        ("vgg_triplet_gray", {"dropout": 1}, "`network.dropout` must be 0 or more and under 1"),
        ("attributes_vgg", {"schema": ["gender"]}, "schema .*: expected attributes of at most"),
        ("attributes_vgg", {"schema": type(CLOTHING_SCHEMA)()}, "its schema has none"),
        ("vgg_triplet_rgb", {"height": 8}, "`network.height` must lie in 16..4096"),
        ("pets_scratch_deep", {"width": 100}, "height and width must be multiples of 8"),
        ("pets_mobilenet_transpose", {"width": 120}, "must be multiples of 32"),
        ("vgg_triplet_rgb", {"weights": "imagenet"}, "starts from random weights"),
        ("pets_mobilenet_dense", {"weights": "weights.h5"}, "weights.h5: no such file"),
        (
            "baseline",
            {"backbone": "coatnet_0_224", "weights": "imagenet"},
            "timm has no ImageNet weights of backbone coatnet_0_224: use `network.weights=none`",
        ),
        (
            "baseline",
            {"backbone": "resnet18.b9_in1k"},
            r"backbone 'resnet18.b9_in1k' is no timm model: did you mean 'resnet18\.",
        ),
    ],
)
def test_what_a_network_cannot_be_is_one_line(name, overrides, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        build_model(name, **overrides)
    assert "\n" not in str(caught.value)


def test_mobilenet_starts_from_a_file(tmp_path):
    torch.manual_seed(1)
    donor = timm.create_model("mobilenetv3_small_100")
    save_file(donor.state_dict(), tmp_path / "mobilenet.safetensors")
    network = made("pets_mobilenet_transpose", weights=str(tmp_path / "mobilenet.safetensors"))
    last = list(donor.blocks.children())[-1][0].conv
    assert torch.equal(network.backbone[0].weight, donor.conv_stem.weight)
    assert torch.equal(network.backbone[-1].weight, last.weight)


def test_imagenet_weights_out_of_reach_are_one_line_that_offers_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="need a network connection; give a local") as caught:
        build_model("pets_mobilenet_transpose", weights="imagenet")
    assert "\n" not in str(caught.value)
