"""A file that runs code where it is unpickled is refused under every name, and runs none."""

import json
import pickle
import shutil
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as papq
import pytest
import torch
from ray.data.extensions.object_extension import ArrowPythonObjectType

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.layouts import read_manifest
from reidray.errors import UserError
from reidray.models import ModelCard, load_model, save_model
from reidray.models.factory import build_architecture, build_network
from reidray.training.checkpoint import TrainingSnapshot, read_best_weights
from reidray.training.runs.checkpoint_files import write_checksums

SETTINGS = {"backbone": "resnet_tiny", "num_people": 2, "schema": PEDESTRIAN_SCHEMA}


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (self.mark.touch, ())


@pytest.fixture
def mark(tmp_path):
    """A file that is there as soon as a bomb was unpickled."""
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
    mark.unlink()
    yield mark
    assert not mark.exists()


@pytest.fixture(params=["pickle", "zip of PyTorch", "zip of PyTorch behind a header"])
def disguised(request, mark, tmp_path):
    """A bomb as a file."""
    path = tmp_path / "bomb"
    if request.param == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save({"weight": Bomb(mark)}, path)
    if request.param.endswith("header"):
        path.write_bytes((2).to_bytes(8, "little") + b"{}" + path.read_bytes())
    return path


def is_one_line(caught):
    return "\n" not in str(caught.value)


def test_a_model_whose_weights_are_a_pickle_is_refused(disguised, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    architecture = build_architecture("apr", **SETTINGS)
    save_model(
        folder, build_network(architecture), architecture, ModelCard(metric="cosine"), "# A model\n"
    )
    shutil.copy(disguised, folder / "model.safetensors")
    description = json.loads((folder / "model.json").read_text())
    description["weights_sha256"] = sha256(disguised.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"model\.safetensors is not of the architecture") as caught:
        load_model(folder)
    assert is_one_line(caught)


def test_a_backbone_that_is_a_pickle_by_the_name_of_safetensors_is_refused(disguised):
    weights = disguised.rename(disguised.with_suffix(".safetensors"))
    architecture = build_architecture("apr", **SETTINGS)
    with pytest.raises(UserError, match="cannot be read as safetensors") as caught:
        build_network(architecture, weights=str(weights))
    assert is_one_line(caught)


def test_weights_that_are_a_pickle_with_code_are_refused(disguised):
    architecture = build_architecture("apr", **SETTINGS)
    with pytest.raises(
        UserError, match=r"`network.weights` .*bomb: (is refused|is neither|cannot be)"
    ) as caught:
        build_network(architecture, weights=str(disguised))
    assert is_one_line(caught)


@pytest.mark.parametrize("name", ["network", "best", "optimizer"])
def test_a_checkpoint_that_is_a_pickle_is_refused(disguised, tmp_path, name):
    network = torch.nn.Linear(2, 2)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    state = TrainingSnapshot(
        network, torch.optim.SGD(network.parameters()), {}, best_weights=weights
    )
    state.save(tmp_path)
    state.restore(tmp_path)
    shutil.copy(disguised, tmp_path / f"{name}.safetensors")
    write_checksums(tmp_path)
    with pytest.raises(UserError, match=rf"{name}\.safetensors is damaged") as caught:
        state.restore(tmp_path)
    assert is_one_line(caught)
    if name == "best":
        with pytest.raises(UserError, match="is damaged"):
            read_best_weights(tmp_path)


@pytest.mark.parametrize("column", ["path", "split", "person", "label", "mask_path", "attr_hat"])
def test_a_manifest_that_holds_what_ray_data_would_unpickle_is_refused(mark, tmp_path, column):
    columns = {"path": pa.array(["a.jpg"]), "split": pa.array(["train"])}
    content = pa.array([pickle.dumps(Bomb(mark))], pa.large_binary())
    bombs = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), content)
    papq.write_table(pa.table(columns | {column: bombs}), tmp_path / "manifest.parquet")
    with pytest.raises(UserError, match=f"column '{column}' holds .*expected text") as caught:
        read_manifest(str(tmp_path), "auto")
    assert is_one_line(caught)
