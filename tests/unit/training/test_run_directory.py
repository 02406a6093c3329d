import pytest

from reidray.storage.location import Location
from reidray.training.runs.run_directory import RunDirectory

MADE = [
    "config.yaml",
    "metrics.jsonl",
    "report.html",
    "model/model.json",
    "model/model.safetensors",
    "model/README.md",
    "tensorboard/events.out.tfevents.1.host.2.0",
]
OTHERS = ["notes.txt", "model/notes.txt", "config.yaml.orig", "tensorboard/mine.csv"]


def make_run(uri, *names):
    for name in names:
        Location(uri).write_bytes(name, b"made")
    return RunDirectory.from_uri(uri)


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_clearing_a_run_keeps_files_of_others(place, tmp_path, bucket):
    uri = str(tmp_path / "run") if place == "disk" else f"{bucket}/run"
    make_run(uri, *MADE, *OTHERS).clear()
    assert sorted(Location(uri).list_files()) == sorted(OTHERS)


def test_clearing_a_run_removes_its_empty_folder(tmp_path):
    run = make_run(str(tmp_path / "run"), *MADE)
    run.clear()
    assert not run.folder.exists()
    run.clear()


def test_clearing_a_failed_sweep_keeps_folders_of_others(tmp_path):
    names = ["sweep.yaml", "tune/t1/params.json", "tune/t1/deep/x.bin", "mine/tune/x"]
    run = make_run(str(tmp_path / "sweep"), *names)
    (run.folder / "tune" / "empty").mkdir()
    run.clear(("sweep.yaml", "tune/*"))
    assert [path.name for path in run.folder.iterdir()] == ["mine"]
