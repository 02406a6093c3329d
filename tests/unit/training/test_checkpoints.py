"""A run with a damaged checkpoint resumes from the whole checkpoint before it."""

import json
import logging
import re
import shutil
import subprocess

import pytest
import torch
from support.epoch_recorder import EpochRecorder
from support.synthetic_people import CONFIG, build_network, build_task, build_unseeded_network

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.training.checkpoint import read_best_weights, read_trainer_state
from reidray.training.loop import TrainerConfig, fit
from reidray.training.runs.checkpoint_files import (
    check_checkpoint,
    newest_checkpoint,
    repair_checkpoint_list,
)

FILES = ("network.safetensors", "best.safetensors", "optimizer.safetensors", "state.json")
TRAINER_CONFIG = TrainerConfig(
    seed=0, epochs=3, optimizer=OptimizerConfig(), validation=CONFIG.validation
)


class Saver(EpochRecorder):
    """Keep the checkpoint of each epoch, as Ray Train does."""

    def __init__(self, run):
        super().__init__()
        self.folder = run / "checkpoints"

    def on_epoch_end(self, record, save):
        place = self.folder / f"checkpoint_2026-05-01_10-0{record['epoch']}-00.0"
        place.mkdir(parents=True)
        save(place)


def list_checkpoints(run, *names, **others):
    """Write the list that Ray Train keeps."""
    entries = [{"version": 0, "checkpoint_dir_name": name, "metrics": {}} for name in names]
    content = {
        "ray_version": "2.60.0",
        "checkpoint_results": entries,
        "checkpoint_report_indices": list(range(len(entries))),
        "latest_checkpoint_result": entries[-1],
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": 3,
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }
    file = run / "checkpoints" / "checkpoint_manager_snapshot.json"
    file.write_text(json.dumps(content | others))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained")
    fit(build_task(), build_network(), TRAINER_CONFIG, Saver(run))
    shutil.rmtree(next((run / "checkpoints").glob("*_10-01-*")))
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A run directory with the checkpoints of epochs 2 and 3, as Ray Train leaves them."""
    copy = shutil.copytree(trained, tmp_path / "run")
    list_checkpoints(copy, *names_of(copy))
    return copy


def names_of(run):
    return sorted(path.name for path in (run / "checkpoints").glob("checkpoint_2*"))


def newest(run):
    """Return the name of the checkpoint that Ray Train resumes from."""
    text = (run / "checkpoints" / "checkpoint_manager_snapshot.json").read_text()
    return json.loads(text)["latest_checkpoint_result"]["checkpoint_dir_name"]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [flip, cut, remove])
@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_any_damage_to_the_newest_checkpoint_is_found_and_the_one_before_it_taken(
    run, caplog, name, damage
):
    before, last = names_of(run)
    damage(run / "checkpoints" / last / name)
    with pytest.raises(UserError, match=r"checkpoint file .* is (damaged|missing)"):
        check_checkpoint(Location(str(run / "checkpoints" / last)))
    with pytest.raises(UserError, match=r"is damaged|is missing") as caught:
        fit(
            build_task(),
            build_unseeded_network(),
            TRAINER_CONFIG,
            EpochRecorder(),
            checkpoint=run / "checkpoints" / last,
        )
    assert "\n" not in str(caught.value)
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == before
    assert f"going on from the checkpoint before it, {before}" in caplog.text
    assert read_trainer_state(run / "checkpoints" / before).epoch == 2
    caplog.clear()
    repair_checkpoint_list(Location(str(run)))
    assert not caplog.text


def test_a_run_without_a_whole_checkpoint_is_refused_in_one_line(run):
    for name in names_of(run):
        flip(run / "checkpoints" / name / "best.safetensors")
    with pytest.raises(UserError, match="no checkpoint before it is whole: train again") as caught:
        repair_checkpoint_list(Location(str(run)))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_folder_that_is_gone_leaves_the_one_before_it(run):
    before, last = names_of(run)
    shutil.rmtree(run / "checkpoints" / last)
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == before


@pytest.mark.parametrize("text", [None, "", '{"checkpoint_results": [{"che', "[]", "{}", "null"])
def test_a_damaged_list_of_checkpoints_is_written_again(run, caplog, text):
    file = run / "checkpoints" / "checkpoint_manager_snapshot.json"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == names_of(run)[-1]
    assert ("is damaged" in caplog.text) == (text is not None)


def test_a_whole_list_is_left_alone(run):
    file = run / "checkpoints" / "checkpoint_manager_snapshot.json"
    before = file.read_bytes()
    repair_checkpoint_list(Location(str(run)))
    assert file.read_bytes() == before


def test_a_run_without_checkpoints_begins_at_its_first_epoch(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    repair_checkpoint_list(Location(str(tmp_path)))
    assert "has no checkpoint yet: training begins at epoch 1" in caplog.text


@pytest.mark.parametrize("name", ["network.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [cut, remove])
def test_a_run_killed_while_it_wrote_its_first_checkpoint_begins_at_its_first_epoch(
    run, caplog, name, damage
):
    first, other = names_of(run)
    shutil.rmtree(run / "checkpoints" / other)
    (run / "checkpoints" / "checkpoint_manager_snapshot.json").unlink()
    damage(run / "checkpoints" / first / name)
    repair_checkpoint_list(Location(str(run)))
    assert f"{first} was not written to its end: training begins at epoch 1" in caplog.text
    assert names_of(run) == []
    assert newest_checkpoint(Location(str(run))) is None


def test_a_first_checkpoint_that_is_whole_and_not_listed_is_resumed(run):
    first, other = names_of(run)
    shutil.rmtree(run / "checkpoints" / other)
    (run / "checkpoints" / "checkpoint_manager_snapshot.json").unlink()
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == first


def without_checksums(run):
    """Return the newest checkpoint, as earlier versions wrote it."""
    last = run / "checkpoints" / names_of(run)[-1]
    (last / "SHA256SUMS").unlink()
    state = json.loads((last / "state.json").read_text())
    del state["format"]
    (last / "state.json").write_text(json.dumps(state))
    return last


def test_a_checkpoint_without_checksums_is_read(run):
    last = without_checksums(run)
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == last.name
    state, weights = read_trainer_state(last), read_best_weights(last)
    assert state.epoch == 3
    resumed = fit(
        build_task(), build_unseeded_network(), TRAINER_CONFIG, EpochRecorder(), checkpoint=last
    )
    assert all(torch.equal(weights[key], value) for key, value in resumed.best_weights.items())
    cut(last / "state.json")
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == names_of(run)[0]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_checkpoint_without_checksums_is_skipped(run, name):
    cut(without_checksums(run) / name)
    repair_checkpoint_list(Location(str(run)))
    assert newest(run) == names_of(run)[0]


@pytest.mark.parametrize(
    ("key", "value"), [("epoch", "3"), ("records", [[]]), ("best", None), ("pace", 1)]
)
def test_a_trainer_state_of_other_types_is_refused(run, key, value):
    last = without_checksums(run)
    state = json.loads((last / "state.json").read_text())
    state["standing"][key] = value
    (last / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"state\.json is damaged"):
        read_trainer_state(last)


@pytest.mark.parametrize("name", ["../../treasure", "/treasure", "linked", "..", ""])
def test_a_list_that_names_another_folder_is_refused(run, name):
    """Ray Train deletes the checkpoints that its list names."""
    (run.parent / "treasure").mkdir()
    (run / "checkpoints" / "linked").symlink_to(run.parent / "treasure")
    pending = [{"version": 0, "checkpoint_dir_name": name, "metrics": {}}]
    list_checkpoints(run, *names_of(run), pending_training_results=pending)
    with pytest.raises(UserError, match=re.escape(f"names a checkpoint {name!r}")):
        repair_checkpoint_list(Location(str(run)))


def test_checksums_are_those_of_sha256sum(run):
    folder = run / "checkpoints" / names_of(run)[-1]
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0


def test_a_damaged_checkpoint_in_a_bucket_is_skipped(run, bucket):
    flip(run / "checkpoints" / names_of(run)[-1] / "optimizer.safetensors")
    place = Location(f"{bucket}/run")
    for file in run.rglob("*"):
        if file.is_file():
            place.write_bytes(file.relative_to(run).as_posix(), file.read_bytes())
    repair_checkpoint_list(place)
    listed = json.loads(place.read_bytes("checkpoints/checkpoint_manager_snapshot.json"))
    assert listed["latest_checkpoint_result"]["checkpoint_dir_name"] == names_of(run)[0]
