"""Weights are read from files of any project, and damaged or dangerous files are refused."""

import argparse
import io
import json
import re
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from support.unpickled import convert

from reidray.config.sections.weight_names import hub_repository
from reidray.errors import UserError
from reidray.models.weights import pickle_process, read_weights, unpickling
from reidray.storage.input_checks import check_weights
from reidray.storage.location import Location

TENSORS = {
    "conv1.weight": torch.arange(6.0).reshape(2, 3),
    "bn1.num_batches_tracked": torch.tensor(7),
}


def saved(value, **how):
    """The bytes of a file of `torch.save`."""
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def converted(data):
    """The tensors that the program that unpickles makes of a file."""
    answer, written = convert(data)
    assert answer == {}
    return load(written)


def one_line(caught):
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainings_save_beside_the_weights_is_left_out(zipped):
    checkpoint = {
        "state_dict": TENSORS,
        "epoch": 60,
        "rank1": np.float64(0.9),
        "history": np.arange(4),
        "args": argparse.Namespace(lr=np.float32(0.1)),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        "scheduler": {"milestones": [20, 40], "last": torch.ones(1)},
    }
    found = converted(saved(checkpoint, _use_new_zipfile_serialization=zipped))
    assert found.keys() == {f"state_dict.{name}" for name in TENSORS}
    for name, tensor in TENSORS.items():
        assert torch.equal(found[f"state_dict.{name}"], tensor)


def test_a_weight_is_kept_whatever_its_name():
    names = ("scaler", "criterion.weight", "loss_layer.bias")
    assert converted(saved(dict.fromkeys(names, torch.ones(2)))).keys() == set(names)


@pytest.mark.slow
def test_an_archive_that_unpacks_to_far_more_needs_too_much_memory(tmp_path):
    """Compressed zeros, in a process whose room for other things is small."""
    archive = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(1024)})))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name in archive.namelist():
            is_values = name.endswith("data/0")
            made.writestr(name, bytes(300 * 1024**2) if is_values else archive.read(name))
    program = tmp_path / "program.py"
    program.write_text(
        Path(unpickling.__file__).read_text().replace("ROOM = 2 * 1024**3", "ROOM = 256 * 1024**2")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle_process, "PROGRAM", program)
        with pytest.raises(pickle_process.ConversionError, match="needs more memory"):
            pickle_process.convert_pickle(bomb.getvalue())


def test_weights_that_share_or_stretch_their_memory_are_copied():
    weight = torch.arange(8.0).reshape(2, 4)
    found = converted(saved({"a": weight.T, "b": weight[0], "c": torch.nn.Parameter(weight)}))
    assert torch.equal(found["a"], weight.T)
    assert torch.equal(found["b"], weight[0])
    assert torch.equal(found["c"], weight)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (self.mark.touch, ())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.nn.Linear(2, 2), r"holds a whole network \(torch.nn.modules.linear.Linear\)"),
        ({"a": torch.zeros(1).expand(10**12)}, "more values than its .* bytes can"),
        ({"epoch": 3}, "holds no tensors"),
        ([torch.ones(2)], "holds no tensors"),
    ],
)
def test_files_without_plain_weights_are_refused(value, reason):
    answer, written = convert(saved(value))
    assert re.search(reason, answer["error"])
    assert not written


def test_code_in_a_pickle_is_named_and_never_runs(tmp_path):
    mark = tmp_path / "ran"
    answer, _ = convert(saved({"a": torch.ones(1), "b": Bomb(mark)}))
    assert "it names code (" in answer["error"]
    assert not mark.exists()


@pytest.mark.parametrize("length", [30, 400, 900])
def test_a_truncated_pickle_is_damaged(length):
    answer, written = convert(saved(TENSORS)[:length])
    assert "it is damaged" in answer["error"]
    assert not written


def test_a_process_without_secrets_converts_a_file_of_torchreids_name(tmp_path, monkeypatch):
    file = tmp_path / "model.pth.tar-60"
    file.write_bytes(saved({"state_dict": TENSORS, "rank1": np.float64(0.9)}))
    seen = {}
    run = pickle_process.subprocess.run

    def spy(*words, **options):
        seen.update(options["env"])
        return run(*words, **options)

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(pickle_process.subprocess, "run", spy)
    source = read_weights(str(file))
    assert source.kind == "torch.save"
    assert torch.equal(source.tensors()["state_dict.conv1.weight"], TENSORS["conv1.weight"])
    assert "secret" not in seen.values()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_process_that_dies_or_hangs_is_one_line(tmp_path, monkeypatch):
    file = tmp_path / "a.pth"
    file.write_bytes(saved(TENSORS))
    program = tmp_path / "program.py"
    monkeypatch.setattr(pickle_process, "PROGRAM", program)
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(UserError, match=r"process that reads it died \(SIGKILL\)") as caught:
        read_weights(str(file))
    one_line(caught)
    monkeypatch.setattr(pickle_process, "MAX_SECONDS", 0.3)
    program.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(UserError, match="not read within") as caught:
        read_weights(str(file))
    one_line(caught)


SAFE = save(TENSORS)
HEADER = json.loads(SAFE[8 : 8 + struct.unpack("<Q", SAFE[:8])[0]])


def with_header(header, values=b"\0" * 64):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{",
        with_header({"a": entry([2**40, 2**40], 0, 64)}),
        with_header({"a": entry([16], 0, 64), "b": entry([8], 0, 32)}),
        with_header({"a": entry([8], 32, 64)}),
        with_header({"a": entry([16], 0, 2**62)}),
        with_header({"a": entry([16], 0, 64, "F99")}),
        with_header({"a": entry([-16], 0, 64)}),
        with_header(b"[" * 5000),
        with_header({}, b""),
        SAFE[:-3],
        b"PK\x03\x04",
    ],
)
def test_absurd_safetensors_are_one_line(tmp_path, data):
    file = tmp_path / "a.safetensors"
    file.write_bytes(data)
    with pytest.raises(
        UserError,
        match=r"`network.weights` .*a.safetensors: (cannot be read as|holds no tensors)",
    ) as caught:
        read_weights(str(file)).tensors()
    one_line(caught)


def damage(original, draw):
    changed = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)) | st.just(len(changed)))])


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_damaged_safetensors_are_read_or_refused(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    file.write_bytes(damage(SAFE, data.draw))
    with suppress(UserError):
        assert read_weights(str(file)).tensors()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_damaged_pickles_give_tensors_or_a_reason(data):
    zipped = data.draw(st.booleans())
    original = saved({"model": TENSORS}, _use_new_zipfile_serialization=zipped)
    answer, written = convert(damage(original, data.draw))
    assert load(written) if written else answer["error"]


def test_files_that_are_no_weights_are_one_line(tmp_path):
    (tmp_path / "notes.pth").write_text("my notes")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").touch()
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "model.json").write_text("{}")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "empty.pth").touch()
    (tmp_path / "half.pth").write_bytes(saved(TENSORS)[:400])
    for name, reason in (
        ("empty.safetensors", "is empty, it has 0 bytes: copy or download it again"),
        ("empty.pth", "is empty, it has 0 bytes: copy or download it again"),
        ("half.pth", "its end is missing or damaged: copy or download it again"),
        ("notes.pth", "neither safetensors nor a file of torch.save"),
        ("none.pth", "no such file"),
        ("folder", "has no model.json; give a model directory"),
        ("run", "is a run directory: give .*run/model"),
    ):
        with pytest.raises(UserError, match=rf"`network.weights` .*{name}: .*{reason}") as caught:
            read_weights(str(tmp_path / name))
        one_line(caught)


def test_the_header_of_a_file_in_a_bucket_is_checked_too(bucket):
    place = Location(f"{bucket}/weights")
    for name, data in (("a.pth", saved(TENSORS)), ("a.safetensors", SAFE)):
        place.write_bytes(name, data)
        check_weights("network.weights", place.join(name).uri)
        place.write_bytes(name, data[:-30])
        with pytest.raises(UserError, match=rf"{name}: .* copy or download it again") as caught:
            check_weights("network.weights", place.join(name).uri)
        one_line(caught)


def test_names_on_a_hub_are_told_from_places(tmp_path, monkeypatch):
    assert hub_repository("hf-hub:org/name@main") == "org/name@main"
    assert hub_repository("timm/resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mine.pth").touch()
    for place in ("imagenet", "weights.pth", "timm/a/b.pth", "timm/mine.pth", "s3://timm/a"):
        assert hub_repository(place) is None


def test_a_hub_out_of_reach_is_one_line(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("hf-hub:org/name", "timm/resnet50.a1_in1k", "hf-hub:a b/c"):
        with pytest.raises(
            UserError, match=r"hf-hub:.* could not be downloaded .* give a local file"
        ) as caught:
            read_weights(name)
        one_line(caught)
