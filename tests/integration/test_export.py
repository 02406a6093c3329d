"""A trained network leaves as a file of other programs, which gives what PyTorch gives."""

import json
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from support.nightly_runs import draw, make_model
from support.paths import DATA, JOBS

import reidray
from reidray.config.jobs.exporting import ExportConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError
from reidray.export.export_checks import check_export
from reidray.export.export_run import METADATA_FILE, run_export
from reidray.models import ModelCard, save_model
from reidray.models.factory import build_architecture, build_network

PEOPLE = DATA / "market-trento" / "train"
TINY = {"height": 32, "width": 32}

PLUGIN = """
from dataclasses import dataclass
import torch
from torch import nn
from reidray.config import NetworkOptions, register_network_options
from reidray.models import Network, Outputs, register_network
from reidray.models.networks.network import UNIT_RGB

def register(name, embed):
    @register_network_options(name)
    @dataclass(frozen=True, kw_only=True)
    class Options(NetworkOptions):
        pass

    @register_network(name)
    class Odd(Network):
        def __init__(self, architecture, weights):
            super().__init__(UNIT_RGB, embedding_size=4)
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, crops):
            embedding = embed(self.layer(self.scale(crops)).mean((2, 3)))
            return Outputs(embedding, embedding, embedding[:, :0], ())

register("plain_plugin", lambda feature: feature)
register("bessel_plugin", torch.special.bessel_j1)
register("counting_plugin", lambda feature: feature + torch.zeros(len(feature), 4))
register("branching_plugin", lambda feature: feature if feature.sum() > 0 else -feature)
"""


def save(folder, name, metric="cosine", **values):
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    architecture = build_architecture(name, **values)
    network = build_network(architecture)
    for module in network.modules():  # statistics that differ from those of a new network
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_model(folder, network, architecture, ModelCard(metric=metric), "# Model\n")
    return folder


def export(model, output, **changes):
    return run_export(ExportConfig(model=str(model), output=str(output), **changes))


def draw_pictures(folder):
    for person in range(6):
        draw(folder / f"{person}.png", person, 0)
        if person % 2:  # large JPEGs, which are decoded at a part of their size
            file = folder / f"{person}.png"
            Image.open(file).resize((300, 600)).save(file.with_suffix(".jpg"))
            file.unlink()
    return sorted(map(str, folder.iterdir()))


def read_pixels(paths, about):
    size = (about["width"], about["height"])
    images = [Image.open(path) for path in paths]
    for image in images:
        image.draft(None, size)
    crops = [image.convert("RGB").resize(size, Image.BILINEAR) for image in images]
    return np.stack([np.asarray(crop).transpose(2, 0, 1) for crop in crops])


def open_session(file):
    session = onnxruntime.InferenceSession(file)
    about = session.get_modelmeta().custom_metadata_map
    return session, about, json.loads(about["preprocessing"])


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "odd_networks.py").write_text(PLUGIN)
    sys.path.insert(0, str(folder))
    yield ("odd_networks",)
    sys.path.remove(str(folder))


def test_an_onnx_file_gives_the_embeddings_of_embed_for_any_number_of_images(tmp_path):
    model = make_model_at(tmp_path / "model")
    found = export(model, tmp_path / "new" / "reid.onnx")
    assert found["largest_difference"] < 1e-4
    paths = draw_pictures(tmp_path / "pictures")
    session, about, pixels = open_session(tmp_path / "new" / "reid.onnx")
    loaded = reidray.load_model(model)
    expected = reidray.embed(loaded, paths)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for count in (1, 6):
        images = read_pixels(paths[:count], pixels)
        embeddings, *attributes = session.run(None, {"images": images})
        np.testing.assert_allclose(embeddings, expected[:count], atol=1e-5)
    with torch.inference_mode():
        outputs = loaded.network(torch.from_numpy(images))
    for values, logits in zip(attributes, outputs.attributes, strict=True):
        np.testing.assert_allclose(values, logits.softmax(1).numpy(), atol=1e-5)
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", *PEDESTRIAN_SCHEMA.columns] == found["outputs"]
    described = json.loads(about["outputs"])
    assert described["embedding"] == {
        "size": loaded.network.embedding_size,
        "normalized": True,
        "metric": "cosine",
    }
    assert described["attr_gender"] == {"attribute": "gender", "values": ["male", "female"]}
    assert about["model"] == loaded.model_id
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["reid.onnx"]
    assert b".py" not in (tmp_path / "new" / "reid.onnx").read_bytes()  # no paths of the machine


def make_model_at(folder):
    folder.mkdir()
    return make_model(folder, "apr", PEDESTRIAN_SCHEMA)


def test_float32_pixels_are_scaled_by_the_caller_as_the_metadata_says(tmp_path):
    model = save(tmp_path / "model", "vgg_triplet_gray", metric="euclidean")
    export(model, tmp_path / "reid.onnx", pixels="float32")
    paths = draw_pictures(tmp_path / "pictures")
    session, about, pixels = open_session(tmp_path / "reid.onnx")
    mean, deviation = (np.float32(pixels[key]).reshape(3, 1, 1) for key in ("mean", "deviation"))
    images = (read_pixels(paths, pixels).astype(np.float32) / 255 - mean) / deviation
    (embeddings,) = session.run(None, {"images": images})
    expected = reidray.embed(reidray.load_model(model), paths)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert (pixels["type"], pixels["scaled_in_graph"]) == ("float32", False)
    assert not json.loads(about["outputs"])["embedding"]["normalized"]


@pytest.mark.parametrize(
    ("name", "values", "outputs"),
    [
        pytest.param(*("attributes_vgg", {}, 6), marks=pytest.mark.slow),
        pytest.param(*("reid_small", {}, 1), marks=pytest.mark.slow),
        ("pets_scratch_transpose", {}, 2),
        pytest.param(*("pets_mobilenet_dense", {}, 1), marks=pytest.mark.slow),
        pytest.param(*("baseline", {"backbone": "osnet_x0_25", **TINY}, 1), marks=pytest.mark.slow),
        ("baseline", {"backbone": "test_vit", **TINY}, 1),
        pytest.param(
            *("apr", {"backbone": "test_efficientnet", **TINY}, 13), marks=pytest.mark.slow
        ),
    ],
)
def test_every_kind_of_network_is_exported(tmp_path, name, values, outputs):
    model = save(tmp_path / "model", name, **values)
    found = export(model, tmp_path / "net.onnx")
    assert found["largest_difference"] < 1e-4
    assert len(found["outputs"]) == outputs


def test_a_graph_of_torch_export_gives_the_outputs_and_holds_the_metadata(tmp_path):
    model = make_model_at(tmp_path / "model")
    export(model, tmp_path / "net.pt2", format="torch-export", normalize="no")
    extra = {METADATA_FILE: ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    about = json.loads(extra[METADATA_FILE])
    paths = draw_pictures(tmp_path / "pictures")
    images = torch.from_numpy(read_pixels(paths, json.loads(about["preprocessing"])))
    expected = reidray.embed(reidray.load_model(model), paths)
    with torch.inference_mode():
        np.testing.assert_allclose(program(images[:5])[0].numpy(), expected[:5], atol=1e-5)
    with ZipFile(tmp_path / "net.pt2") as members:
        for member in members.namelist():
            assert b".py" not in members.read(member), member  # no paths of the machine


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_timm_loads_the_backbone_it_names(tmp_path, backbone):
    model = save(tmp_path / "model", "baseline", backbone=backbone, **TINY)
    export(model, tmp_path / "body.safetensors", format="timm")
    with safe_open(tmp_path / "body.safetensors", "pt") as file:
        about = file.metadata()
    body = timm.create_model(about["timm_model"], **json.loads(about["timm_arguments"]))
    body.load_state_dict(load_file(tmp_path / "body.safetensors"), strict=True)
    network = reidray.load_model(model).network
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(body.eval()(images), network.backbone.body(images))


def test_a_backbone_with_options_that_timm_lacks_is_exported_with_a_warning(tmp_path, caplog):
    export(
        save(tmp_path / "plain", "baseline", backbone="test_resnet", **TINY),
        tmp_path / "plain.safetensors",
        format="timm",
    )
    assert "timm's model" not in caplog.text
    changed = {"backbone": "test_resnet", "last_stride": 1, "pooling": "gem", **TINY}
    export(
        save(tmp_path / "changed", "baseline", **changed),
        tmp_path / "changed.safetensors",
        format="timm",
    )
    assert "lacks a last stage of stride 1 and the pooling gem" in caplog.text


def test_the_safetensors_file_holds_the_weights_and_the_architecture(tmp_path):
    model = make_model_at(tmp_path / "model")
    export(model, tmp_path / "net.safetensors", format="safetensors")
    written, own = load_file(tmp_path / "net.safetensors"), load_file(model / "model.safetensors")
    assert written.keys() == own.keys()
    assert all(torch.equal(written[name], own[name]) for name in own)
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        about = file.metadata()
    described = json.loads((model / "model.json").read_text())
    assert json.loads(about["network"]) == described["architecture"]


@pytest.mark.skipif(not PEOPLE.is_dir(), reason="the crops of market-trento are not there")
@pytest.mark.parametrize(
    ("precision", "share"), [pytest.param("fp16", 0.6, marks=pytest.mark.slow), ("int8", 0.4)]
)
def test_less_precise_files_are_smaller_and_keep_the_neighbours_of_real_people(
    tmp_path, precision, share
):
    model = save(tmp_path / "model", "reid_small")
    whole = export(model, tmp_path / "fp32.onnx", check_images=str(PEOPLE))
    found = export(model, tmp_path / "small.onnx", precision=precision, check_images=str(PEOPLE))
    assert (whole["same_nearest"], whole["compared_crops"]) == (1.0, 256)
    assert found["bytes"] < share * whole["bytes"]
    assert found["same_nearest"] > 0.8


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("bessel_plugin", {}, "ONNX has no operator for prims.bessel_j1"),
        ("counting_plugin", {}, r"images.shape\[0\]"),
        ("branching_plugin", {}, "branches"),
        ("plain_plugin", {"format": "timm", "output": "x.safetensors"}, "no backbone of timm"),
        (
            "reid_small",
            {"format": "timm", "output": "x.safetensors"},
            "timm",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_told_in_one_line_and_leaves_nothing(
    tmp_path, plugins, network, changes, message
):
    ExportConfig(model="m", output="x.onnx", plugins=plugins)  # registers the networks
    model = save(tmp_path / "model", network)
    asked = {"output": "x.onnx"} | changes
    output = tmp_path / "out" / asked.pop("output")
    with pytest.raises(UserError, match=message) as caught:
        export(model, output, plugins=plugins, **asked)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "there.onnx"}, "exists"),
        ({"output": "model/x.onnx"}, "lies in `model`"),
        ({"output": "there.onnx/x.onnx"}, "is a file"),
        ({"model": "none"}, "no such folder"),
        ({"model": "pictures"}, "has no model.json"),
        ({"check_images": "none"}, "no such folder"),
    ],
)
def test_wrong_paths_are_told_before_pytorch_loads(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    make_model_at(tmp_path / "model")
    draw_pictures(tmp_path / "pictures")
    (tmp_path / "there.onnx").write_text("mine")
    with pytest.raises(UserError, match=message):
        check_export(ExportConfig(**({"model": "model", "output": "x.onnx"} | changes)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"output": "x.bin"},
        {"output": "x.pt2", "format": "torch-export", "precision": "fp16"},
        {"output": "x.onnx", "precision": "int8"},
        {"output": "x.safetensors", "format": "timm", "pixels": "float32"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong):
    with pytest.raises(ValueError, match="`"):
        ExportConfig(model="m", **wrong)


def test_without_the_extra_the_job_says_what_to_install(tmp_path):
    model = make_model_at(tmp_path / "model")
    blocked = "import sys; sys.modules['onnxruntime'] = None; sys.argv[1:] = {words!r}; "
    words = ["export", "--model", str(model), "--output", str(tmp_path / "x.onnx")]
    code = blocked.format(words=words) + "from reidray.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "onnxruntime" in done.stderr
    assert "reidray[export]" in done.stderr


def test_the_job_prints_the_difference_and_publishes_the_file(tmp_path):
    model = make_model_at(tmp_path / "model")
    command = [sys.executable, JOBS / "export.py", "--model", model, "--format", "safetensors"]
    command += ["--output", tmp_path / "net.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes"] == (tmp_path / "net.safetensors").stat().st_size
