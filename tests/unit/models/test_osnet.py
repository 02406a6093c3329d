"""OSNet and OSNet-AIN are those of their papers, and train and rank like any backbone."""

import numpy as np
import pytest
import torch
from support.paths import GOLDEN

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.models import build_architecture, build_model
from reidray.models.backbones import BACKBONES
from reidray.models.factory import build_without_memory
from reidray.models.inference_network import copy_for_inference

PARAMETERS = {"x1_0": 2_169_508, "x0_75": 1_285_754, "x0_5": 630_034, "x0_25": 201_864}
NAMES = ("osnet_x0_25", "osnet_ain_x0_25")


def crops(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("family", ["osnet", "osnet_ain"])
@pytest.mark.parametrize("width", PARAMETERS)
def test_each_width_has_the_parameters_of_the_paper(family, width):
    architecture = build_architecture("baseline", backbone=f"{family}_{width}")
    body = build_without_memory(architecture).backbone
    assert sum(weight.numel() for weight in body.parameters()) == PARAMETERS[width]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden files are not beside the checkout")
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_torchreid_gives_the_embeddings_of_torchreid(name):
    checkpoint = torch.load(GOLDEN / f"{name}_torchreid.pth.tar", weights_only=True)
    weights = {
        key.removeprefix("module."): value
        for key, value in checkpoint["state_dict"].items()
        if "classifier" not in key
    }
    body = BACKBONES.get(name)().eval()
    body.load_state_dict(weights)
    pixels = np.random.default_rng(0).standard_normal((4, 3, 256, 128)).astype("float32")
    with torch.inference_mode():
        found = body(torch.from_numpy(pixels)).numpy()
    expected = np.load(GOLDEN / f"{name}_torchreid_embeddings.npz")["embedding"]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "network"), [(NAMES[0], "apr"), (NAMES[1], "baseline")])
def test_a_step_gives_each_weight_a_gradient(name, network):
    labels = {"schema": PEDESTRIAN_SCHEMA} if network == "apr" else {}
    model = build_model(network, backbone=name, num_people=3, **labels)
    outputs = model(crops(4, 64, 32))
    (outputs.identity.sum() + outputs.metric_feature.square().sum()).backward()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert [name for name, weight in trained.items() if weight.grad is None] == []


@pytest.mark.parametrize(("name", "sides"), [(NAMES[0], (128, 64)), (NAMES[1], (64, 32))])
def test_the_images_beside_a_crop_do_not_change_its_embedding(name, sides):
    model = build_model("baseline", backbone=name, num_people=3).eval()
    images = crops(5, *sides)
    with torch.inference_mode():
        together = model(images).embedding
        alone = torch.cat([model(image[None]).embedding for image in images])
    assert together.shape == (5, 512)
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_the_network_for_inference_computes_the_same_without_batch_normalisations(name):
    model = build_model("baseline", backbone=name, num_people=3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    model.eval()
    images = crops(4, 64, 32)
    with torch.inference_mode():
        expected = model(images).embedding
        folded = copy_for_inference(model, torch.device("cpu"), "fp32")
        assert not any(isinstance(each, torch.nn.BatchNorm2d) for each in folded.modules())
        assert torch.allclose(folded(images).embedding, expected, rtol=1e-3, atol=1e-5)


def test_features_under_bfloat16_have_the_bits_of_float32():
    model = build_model("baseline", backbone="osnet_x0_25", num_people=3).eval()
    network = copy_for_inference(model, torch.device("cpu"), "bf16")
    with torch.inference_mode():
        feature = network(crops(4, 64, 32)).metric_feature
    assert feature.dtype == torch.float32
    assert not torch.equal(feature, feature.bfloat16().float())


def test_without_its_head_it_returns_the_grid_for_another_pooling():
    body = BACKBONES.get("osnet_x0_25")().eval()
    images = torch.rand(2, 3, 64, 32)
    grid = body.forward_features(images)
    assert torch.allclose(body.fc(grid.mean(dim=(2, 3))), body(images), atol=1e-6)
    body.reset_classifier(0, "")
    assert torch.equal(body(images), grid)
    assert grid.shape == (2, body.num_features, 4, 2)


@pytest.mark.slow
def test_the_compiler_takes_the_whole_network_as_one_graph():
    model = build_model("baseline", backbone="osnet_ain_x0_25", num_people=3).eval()
    images = crops(2, 64, 32)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        assert torch.equal(compiled(images).embedding, model(images).embedding)
