"""A training with `--ray-address none` needs no Ray, and gives the weights of one with Ray."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from safetensors.numpy import load_file
from support.forked_scripts import script_command
from support.paths import JOBS, ROOT

from reidray.demo import generate_demo_set

WITHOUT_RAY = ROOT / "tests" / "support" / "train_without_ray.py"
SHORT = [
    "--recipe",
    "demo",
    "--batch.people",
    "6",
    "--network.height",
    "32",
    "--network.width",
    "16",
    "--network.feature-size",
    "32",
    "--validation.every",
    "1",
    "--use-gpu",
    "no",
]


def train(*arguments, script=WITHOUT_RAY, address="none", is_fresh=False):
    words = [script, *arguments, "--ray-address", address]
    command = [sys.executable, *map(str, words)] if is_fresh else script_command(*words)
    return subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT)


def train_whole(*arguments, **options):
    done = train(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    generate_demo_set(folder, people=40, images=480)
    (folder / "train" / "0001_c1_000000999.jpg").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def run(crops, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without_ray") / "run"
    asked = ("--data", crops, "--output", folder, *SHORT, "--epochs", 3)
    assert train_whole(*asked, is_fresh=True)["bad_images"] == 1
    return folder


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


def test_the_run_directory_is_whole(run):
    files = {path.relative_to(run).parts[0] for path in run.rglob("*") if path.is_file()}
    assert files == {
        "checkpoints",
        "config.yaml",
        "metrics.jsonl",
        "model",
        "report.html",
        "tensorboard",
    }
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert len([path for path in (run / "checkpoints").iterdir() if path.is_dir()]) == 2
    assert "ray_address" not in yaml.safe_load((run / "config.yaml").read_text())


def test_the_trento_recipe_trains_and_validates_as_its_report(crops, tmp_path):
    """On a small backbone, as ResNet-50 takes minutes on a CPU."""
    small = ("--network.backbone", "resnet_tiny", "--network.weights", "none", "--batch.people", 8)
    size = ("--network.height", 32, "--network.width", 16, "--use-gpu", "no", "--epochs", 1)
    folder = tmp_path / "run"
    asked = ("--data", crops, "--recipe", "apr_trento", *small, *size, "--output", folder)
    found = train_whole(*asked)
    assert found["protocol"].startswith("mAP@50 ")
    assert "(all, standard AP, euclidean distance, 100 queries used" in found["protocol"]
    people = sorted({path.name[:4] for path in (crops / "train").iterdir()})
    assert found["dataset"]["train"]["people"] + found["dataset"]["val"]["people"] == len(people)
    (record,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert 0 < record["training_accuracy"] < 1
    assert record["validation_loss"] == record["validation_loss_attributes"] > 0
    assert "Loss on validation images" in (folder / "report.html").read_text()


@pytest.mark.cluster
def test_ray_gives_the_same_weights(run, crops, ray_address, tmp_path):
    settings = ("--data", crops, *SHORT, "--epochs", 3, "--output", tmp_path / "run")
    train_whole(*settings, script=JOBS / "train_reid.py", address=ray_address, is_fresh=True)
    assert_same_weights(weights(tmp_path / "run"), weights(run))


def test_a_run_goes_on_from_its_last_checkpoint(run, tmp_path):
    """Two epochs of three in a run that is then interrupted: its last checkpoint is removed."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir() if path.is_dir())
    for path in (folder / "checkpoints" / names[-1]).iterdir():
        path.write_bytes(b"")
    for path in (folder / "model").iterdir():
        path.unlink()
    done = train("--resume", folder)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch 2" in done.stderr
    assert_same_weights(weights(folder), weights(run))


def test_a_run_killed_while_it_wrote_its_first_checkpoint_begins_anew(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    first, last = sorted(path for path in (folder / "checkpoints").iterdir() if path.is_dir())
    shutil.rmtree(last)
    (first / "state.json").unlink()
    (folder / "checkpoints" / "checkpoint_manager_snapshot.json").unlink()
    shutil.rmtree(folder / "model")
    done = train("--resume", folder)
    assert done.returncode == 0, done.stderr
    assert "was not written to its end: training begins at epoch 1" in done.stderr
    assert_same_weights(weights(folder), weights(run))


def test_a_report_that_cannot_be_written_is_one_line_and_the_run_goes_on(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    done = train("--resume", folder)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "the model and the report cannot be written" in line
    assert line.endswith("go on with --resume")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    (folder / "report.html").rmdir()
    train_whole("--resume", folder)
    assert (folder / "report.html").is_file()
    assert_same_weights(weights(folder), weights(run))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num-workers", "2"), "--num-workers 2 needs Ray, and --ray-address is none"),
        (("--ingest", "stream"), "--ingest stream needs Ray, and --ray-address is none"),
        (("--use-gpu", "yes"), "--use-gpu yes"),
    ],
)
def test_a_setting_that_needs_ray_is_refused(crops, tmp_path, flags, message):
    done = train("--data", crops, "--output", tmp_path / "run", *SHORT, *flags)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (tmp_path / "run").exists()
