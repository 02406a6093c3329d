import json
import pickle
import resource

import pytest
import torch

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError
from reidray.models import (
    NETWORKS,
    ModelCard,
    Outputs,
    build_architecture,
    load_model,
    load_person_model,
    save_model,
)
from reidray.models.architecture import field_names
from reidray.models.factory import build_network

ARCHITECTURE = build_architecture(
    "apr",
    backbone="resnet_tiny",
    num_people=5,
    schema=PEDESTRIAN_SCHEMA,
    feature_size=32,
    height=64,
    width=32,
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = build_network(ARCHITECTURE).eval()
    save_model(tmp_path, network, ARCHITECTURE, ModelCard(metric="cosine"), "# A model\n")
    return network, tmp_path


def test_a_loaded_model_says_what_the_saved_one_said(saved):
    network, folder = saved
    loaded = load_model(folder)
    crops = torch.randint(0, 256, (3, 3, 64, 32), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = network(crops), loaded.network(crops)
    assert torch.equal(before.embedding, after.embedding)
    assert all(map(torch.equal, before.attributes, after.attributes))
    assert loaded.architecture == ARCHITECTURE
    assert loaded.card.metric == "cosine"


def test_all_files_of_a_model_have_the_permissions_that_the_umask_leaves(saved):
    _, folder = saved
    (folder / "other").touch()
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_comes_back_from_its_directory(name, tmp_path):
    tiny = "test_vit" if name == "transreid" else "resnet_tiny"
    small = {"backbone": tiny} if "backbone" in field_names(name) else {}
    architecture = build_architecture(name, height=64, width=32, **small)
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    save_model(tmp_path, network, architecture, ModelCard(metric="cosine"), "# A model\n")
    torch.manual_seed(1)
    loaded = load_model(tmp_path)
    assert loaded.architecture == architecture
    crops = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = network(crops), loaded.network(crops)
    if isinstance(before, Outputs):
        assert torch.equal(before.embedding, after.embedding)
        assert len(before.attributes) == len(after.attributes) == len(architecture.schema.sizes)
        assert all(map(torch.equal, before.attributes, after.attributes))
    else:
        assert torch.equal(before.classes, after.classes)
        assert torch.equal(before.masks, after.masks)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "baseline",
            {"colour": "rgb", "mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]},
        ),
        ("vgg_triplet_gray", {"colour": "grey", "mean": [0.0], "deviation": [1.0]}),
    ],
)
def test_a_description_says_what_the_network_makes_of_pixels(name, expected, tmp_path):
    small = {"backbone": "resnet_tiny"} if name == "baseline" else {}
    architecture = build_architecture(name, **small)
    save_model(
        tmp_path,
        build_network(architecture),
        architecture,
        ModelCard(metric="cosine"),
        "# A model\n",
    )
    assert json.loads((tmp_path / "model.json").read_text())["input"] == expected


@pytest.mark.parametrize(
    "earlier",
    [{}, {"embedding_size": 0, "num_classes": 0}, {"embedding_size": 0, "height": 64}],
    ids=["before the triplet networks", "all fields of all networks", "some of them"],
)
def test_a_directory_of_an_earlier_reidray_still_loads(saved, earlier):
    _, folder = saved
    description = json.loads((folder / "model.json").read_text())
    del description["architecture"]["num_classes"]
    description["architecture"] |= earlier
    (folder / "model.json").write_text(json.dumps(description))
    assert load_model(folder).architecture == ARCHITECTURE


def test_a_directory_from_before_reid_small_took_all_options_of_backbones_still_loads(tmp_path):
    architecture = build_architecture("reid_small")
    save_model(
        tmp_path, build_network(architecture), architecture, ModelCard(metric="cosine"), "# A\n"
    )
    file = tmp_path / "model.json"
    description = json.loads(file.read_text())
    del description["architecture"]["pooling"], description["architecture"]["last_stride"]
    file.write_text(json.dumps(description))
    assert load_model(tmp_path).architecture == architecture


def test_other_weights_have_another_id(saved, tmp_path_factory):
    network, folder = saved
    other = tmp_path_factory.mktemp("other")
    torch.nn.init.zeros_(network.identity.weight)
    save_model(other, network, ARCHITECTURE, ModelCard(metric="cosine"), "# A model\n")
    assert load_model(folder).model_id == load_model(folder).model_id
    assert load_model(folder).model_id != load_model(other).model_id


def cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def overwrite_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")


def flip_a_bit(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def claim_another_format(folder):
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"format": 99}))


def claim(**changes):
    """Claim another architecture."""

    def damage(folder):
        description = json.loads((folder / "model.json").read_text())
        description["architecture"] |= changes
        (folder / "model.json").write_text(json.dumps(description))

    return damage


def add_a_pickle(folder):
    (folder / "extra.pkl").write_bytes(pickle.dumps({}))


def pickle_as_weights(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_short, "model.safetensors is damaged"),
        (flip_a_bit, "model.safetensors is damaged"),
        (overwrite_weights, "model.safetensors is damaged"),
        (pickle_as_weights, "model.safetensors is damaged"),
        (claim_another_format, "format 99"),
        (claim(height=10**6), "`network.height` must lie in 16..4096"),
        (claim(num_people=10**30), "num_people 10*: expected a whole number from 1 to"),
        (
            claim(height=4000, width=4000),
            "x `network.width` must be 1,048,576 pixels",
        ),
        (claim(embedding_size=10**6), "has no embedding_size"),
        (claim(name="x" * 10**6), "network 'x{77}...', which does not exist"),
        (claim(feature_size=64), "not of the architecture"),
        (claim(feature_size=10**30), "`network.feature_size` must lie in 1..65536"),
        (claim(feature_size="64"), "`network.feature_size` '64': expected a whole number"),
        (claim(backbone=["resnet18"]), "`network.backbone` .*: expected text"),
        (claim(name=["apr"]), "is damaged"),
        (add_a_pickle, "extra.pkl, which may be a pickle"),
        (lambda folder: (folder / "model.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "model.json").write_text("[" * 100_000), "not JSON"),
        (lambda folder: (folder / "model.json").write_text("9" * 5000), "not JSON"),
        (lambda folder: (folder / "model.json").write_text("[]"), "format None"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1}'), "is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    ],
)
def test_a_damaged_model_is_named_in_one_line(saved, damage, complaint):
    _, folder = saved
    damage(folder)
    with pytest.raises(UserError, match=complaint) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_description_of_any_size_costs_no_memory(saved):
    _, folder = saved
    claim(feature_size=60_000)(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="not of the architecture"):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("changes", [{"metric": "x"}, {"metric": None}, {"metrics": [1]}])
def test_a_model_card_that_scoring_cannot_go_by_is_refused(saved, changes):
    _, folder = saved
    description = json.loads((folder / "model.json").read_text())
    description["card"] |= changes
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="damaged"):
        load_person_model(folder)


def test_a_missing_model_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load_model(tmp_path / "nowhere")


def test_a_network_that_gives_no_embedding_is_refused_where_people_are_looked_for(tmp_path):
    architecture = build_architecture("pets_mobilenet_dense", num_classes=3)
    save_model(tmp_path, build_network(architecture), architecture, ModelCard(metric=""), "")
    assert load_model(tmp_path).network.embedding_size == 0
    with pytest.raises(UserError, match="gives no embedding: its network 'pets_mobilenet_dense'"):
        load_person_model(tmp_path)
