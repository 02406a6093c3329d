import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError
from reidray.models import build_model
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.models.backbones.striped_resnet import STRIPES, StripedResNet

CROPS = torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8)


def apr(**overrides):
    settings = {
        "backbone": "resnet_tiny",
        "num_people": 7,
        "schema": PEDESTRIAN_SCHEMA,
        "feature_size": 32,
    }
    return build_model("apr", **(settings | overrides))


def test_apr_embeds_the_dense_feature_with_the_reweighted_attributes_behind_it():
    network = apr().eval()
    outputs = network(CROPS)
    assert [values.shape[1] for values in outputs.attributes] == list(PEDESTRIAN_SCHEMA.sizes)
    assert outputs.identity.shape == (4, 7)
    assert outputs.embedding.shape == (4, 32 + sum(PEDESTRIAN_SCHEMA.sizes))
    probabilities = torch.cat([values.softmax(dim=1) for values in outputs.attributes], dim=1)
    confidence = torch.sigmoid(network.confidence(probabilities))
    assert torch.allclose(outputs.embedding[:, 32:], confidence * probabilities)
    assert torch.allclose(network.identity(outputs.embedding), outputs.identity, atol=1e-5)


def test_apr_with_a_neck_ranks_and_classifies_by_the_normalised_embedding():
    network = apr(neck=True).eval()
    nn.init.uniform_(network.neck.running_mean)
    nn.init.uniform_(network.neck.weight)
    outputs = network(CROPS)
    assert outputs.metric_feature.shape == outputs.embedding.shape
    assert torch.allclose(outputs.embedding, network.neck(outputs.metric_feature))
    assert not torch.allclose(outputs.embedding, outputs.metric_feature)
    assert torch.allclose(outputs.identity, outputs.embedding @ network.identity.weight.T)


def test_joint_is_baseline_with_attributes_that_the_embedding_predicts():
    options = {"backbone": "resnet_tiny", "num_people": 7}
    network = build_model("joint", schema=PEDESTRIAN_SCHEMA, **options).eval()
    baseline = build_model("baseline", **options).eval()
    shared = {key: network.state_dict()[key] for key in baseline.state_dict()}
    baseline.load_state_dict(shared)
    outputs, expected = network(CROPS), baseline(CROPS)
    assert torch.equal(outputs.embedding, expected.embedding)
    assert torch.equal(outputs.metric_feature, expected.metric_feature)
    assert torch.equal(outputs.identity, expected.identity)
    assert [values.shape[1] for values in outputs.attributes] == list(PEDESTRIAN_SCHEMA.sizes)
    for logits, classifier in zip(outputs.attributes, network.attributes, strict=True):
        assert torch.allclose(logits, classifier(outputs.embedding))


def test_joint_drops_features_before_the_attributes_alone():
    options = {"backbone": "resnet_tiny", "num_people": 7, "schema": PEDESTRIAN_SCHEMA}
    network = build_model("joint", dropout=0.9, **options).eval()
    network.dropout.train()
    outputs, again = network(CROPS), network(CROPS)
    assert torch.equal(outputs.identity, again.identity)
    assert not torch.equal(outputs.attributes[0], again.attributes[0])


def test_reid_small_mines_triplets_of_the_embeddings_of_length_1_that_it_ranks_by():
    outputs = build_model("reid_small", num_people=7).eval()(CROPS)
    assert torch.equal(outputs.embedding, outputs.metric_feature)
    assert torch.allclose(outputs.embedding.norm(dim=1), torch.ones(len(CROPS)))
    assert outputs.identity.shape == (len(CROPS), 7)


def test_reid_small_takes_another_backbone_and_can_rank_with_fewer_weights():
    network = build_model("reid_small", backbone="resnet_nano_patch", num_people=7)
    ranking = sum(weight.numel() for weight in network.parameters())
    ranking -= network.identity.weight.numel()
    assert ranking == 299_296
    assert network.eval()(CROPS).embedding.shape == (len(CROPS), 4 * 104)


def test_reid_small_takes_the_options_of_any_backbone():
    network = build_model("reid_small", backbone="resnet18", pooling="gem", last_stride=1)
    assert "backbone.pooling.exponent" in dict(network.named_parameters())
    assert network.backbone.body.layer4[0].conv1.stride == (1, 1)


def test_baseline_ranks_by_the_neck_and_mines_triplets_before_it():
    network = build_model("baseline", backbone="resnet_tiny", num_people=7).eval()
    network.neck.running_mean.fill_(1.0)
    outputs = network(CROPS)
    assert torch.allclose(outputs.embedding, network.neck(outputs.metric_feature))
    assert not torch.allclose(outputs.embedding, outputs.metric_feature)
    assert outputs.attributes == ()


def test_our_residual_network_is_the_one_of_timm_with_other_numbers():
    channels, crops = (8, 16, 24, 32), torch.rand(3, 3, 64, 32)
    torch.manual_seed(1)
    ours = StripedResNet(channels)
    torch.manual_seed(1)
    theirs = timm.create_model(
        "resnet18", layers=[1] * 4, channels=list(channels), output_stride=16, num_classes=0
    )
    for (name, value), (their_name, their_value) in zip(
        ours.state_dict().items(), theirs.state_dict().items(), strict=True
    ):
        assert name == their_name
        assert torch.equal(value, their_value)
    for module in (*ours.modules(), *theirs.modules()):
        if hasattr(module, "bn2"):  # begins with zeros, which hide the block behind it
            torch.nn.init.constant_(module.bn2.weight, 0.5)
    ours(crops).square().sum().backward()
    pooled = adaptive_avg_pool2d(theirs.forward_features(crops), (STRIPES, 1)).flatten(1)
    pooled.square().sum().backward()
    assert torch.equal(ours(crops), pooled)
    for weight, their_weight in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(weight.grad, their_weight.grad)


@pytest.mark.parametrize(
    ("name", "size", "weights"),
    [("resnet_nano_patch", (64, 32), 298_464), ("resnet_small_patch", (128, 64), 1_228_160)],
)
def test_a_stem_of_patches_gives_each_stripe_two_rows(name, size, weights):
    body = BACKBONES.get(name)()
    assert sum(weight.numel() for weight in body.parameters()) == weights
    crops = torch.rand(2, 3, *size)
    grid = body.forward_features(crops)
    assert grid.shape[2:] == (8, 4)
    assert body(crops).shape == (2, STRIPES * grid.shape[1])


@pytest.mark.parametrize("patch", [None, 4])
def test_a_folded_network_computes_the_same_without_normalisations(patch):
    torch.manual_seed(1)
    network, crops = StripedResNet((8, 16, 24, 32), patch=patch), torch.rand(8, 3, 64, 32)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias)
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 1.5)
    features = network.eval()(crops)
    network.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(network(crops), features, atol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "test_vit"])
def test_any_timm_model_serves_as_backbone(backbone):
    network = build_model("baseline", backbone=backbone, num_people=3, height=64, width=32)
    assert network(CROPS).identity.shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "overrides", "complaint"),
    [
        ("aprr", {}, "did you mean 'apr'"),
        ("apr", {"backbone": "resnet_tinny"}, "did you mean 'resnet_tiny'"),
        ("apr", {"schema": type(PEDESTRIAN_SCHEMA)()}, "the data has none"),
        ("joint", {"schema": type(PEDESTRIAN_SCHEMA)()}, "'joint' learns attributes and the data"),
        ("apr", {"weights": "weights.pth"}, "`network.weights` .*weights.pth: no such file"),
        ("apr", {"weights": "imagenet"}, "resnet_tiny has no ImageNet weights"),
    ],
)
def test_what_cannot_be_built_is_a_mistake_with_the_nearest_name(name, overrides, complaint):
    settings = {"backbone": "resnet_tiny", "num_people": 2, "schema": PEDESTRIAN_SCHEMA}
    with pytest.raises(UserError, match=complaint):
        build_model(name, **(settings | overrides))


def test_weights_from_a_file_fill_the_backbone(tmp_path):
    torch.manual_seed(1)
    donor = apr()
    save_file(donor.backbone.body.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(2)
    network = apr(weights=str(tmp_path / "weights.safetensors"))
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, donor.backbone.state_dict()[name])


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file(apr().backbone.body.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"of the parameters match the backbone"):
        apr(backbone="resnet_small", weights=str(tmp_path / "weights.safetensors"))
