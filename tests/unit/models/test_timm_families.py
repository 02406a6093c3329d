"""A model of each family of timm trains as a backbone at the size of crops, or is refused."""

import pytest
import timm
import torch
from timm.models import list_modules

from reidray.errors import UserError
from reidray.models.backbones import check_backbones
from reidray.models.factory import build_architecture, build_model, build_without_memory
from reidray.models.inference_network import copy_for_inference

FAMILIES = {
    "ResNet": "resnet18",
    "ResNeXt": "resnext50_32x4d",
    "ConvNeXt": "test_convnext",
    "EfficientNet": "test_efficientnet",
    "MobileNetV3": "mobilenetv3_small_050",
    "MobileNetV4": "mobilenetv4_conv_small_035",
    "RegNet": "regnetx_002",
    "ViT": "test_vit",
    "DeiT": "deit_tiny_patch16_224",
    "Swin": "swin_tiny_patch4_window7_224",
    "Swin V2": "swinv2_tiny_window8_256",
    "TinyViT": "tiny_vit_5m_224",
    "EVA": "eva02_tiny_patch14_224",
    "DINOv2": "vit_small_patch14_reg4_dinov2",
    "DINOv3": "vit_small_patch16_dinov3",
}
BY_PATCHES_OF_14 = {"EVA", "DINOv2"}


@pytest.mark.parametrize("pooling", ["own", pytest.param("gem", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_weight_of_a_family_gets_a_gradient_at_the_size_of_crops(family, pooling):
    side = 14 if family in BY_PATCHES_OF_14 else 16
    architecture = build_architecture(
        "baseline",
        backbone=FAMILIES[family],
        pooling=pooling,
        height=8 * side,
        width=4 * side,
        num_people=3,
    )
    network = build_without_memory(architecture)  # shapes and gradients, but no numbers
    with torch.device("meta"):
        outputs = network(torch.zeros(2, 3, 8 * side, 4 * side, dtype=torch.uint8))
        assert outputs.embedding.shape == (2, network.embedding_size)
        (outputs.identity.sum() + outputs.metric_feature.sum()).backward()
    learned = {key for key, weight in network.named_parameters() if weight.grad is not None}
    fixed = {key for key, weight in network.named_parameters() if not weight.requires_grad}
    assert set(dict(network.named_parameters())) == learned | fixed


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_the_features_of_timm_in_float32_and_nearly_so_in_bfloat16(family):
    side = 14 if family in BY_PATCHES_OF_14 else 16
    size, name = (8 * side, 4 * side), FAMILIES[family]
    network = build_model("baseline", backbone=name, height=size[0], width=size[1], num_people=3)
    check_backbones(network)
    crops = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    body = network.eval().backbone.body
    mean, deviation = (
        torch.tensor(body.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std")
    )
    cpu = torch.device("cpu")
    with torch.inference_mode():
        expected = body((crops / 255 - mean) / deviation)
        feature = copy_for_inference(network, cpu, "fp32")(crops).metric_feature
        rounded = copy_for_inference(network, cpu, "bf16")(crops).metric_feature
    assert torch.allclose(feature, expected, atol=1e-4)
    assert torch.cosine_similarity(rounded, expected).min() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("module", list_modules())
def test_every_family_of_timm_gives_features_or_is_refused_in_one_line(module):
    name = timm.list_models(module=module)[0]
    architecture = build_architecture(
        "baseline", backbone=name, height=256, width=128, num_people=3
    )
    complaint = None
    with torch.device("meta"):
        try:
            check_backbones(build_without_memory(architecture))
        except UserError as error:
            complaint = str(error)
    if complaint is not None:
        assert f"backbone {name} cannot take images of 256x128 pixels" in complaint
        assert "\n" not in complaint
