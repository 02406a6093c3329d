import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reidray.data.demo import draw_demo_set

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
EPOCHS = 4
SHORT = (
    f"--recipe demo --epochs {EPOCHS} --batch.people 6 --network.height 32 --network.width 16 "
    "--network.feature-size 32 --validation.every 1 --num-workers 2"
).split()


def start(*arguments):
    command = [sys.executable, ROOT / "jobs" / "train_reid.py", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job):
    output, messages = job.communicate(timeout=280)
    return job.returncode, output, messages


def records(run):
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    draw_demo_set(folder, people=40, images=480)
    return folder


@pytest.fixture(scope="module")
def undisturbed(crops, tmp_path_factory):
    """A training that nothing happens to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    code, output, messages = finish(start("--data", crops, "--output", run, *SHORT))
    assert code == 0, messages
    return run, json.loads(output.splitlines()[-1])


def test_a_run_directory_holds_all_that_a_run_leaves(undisturbed):
    run, result = undisturbed
    assert Path(result["model"]) == run / "model"
    assert [record["epoch"] for record in records(run)] == list(range(1, EPOCHS + 1))
    assert records(run)[-1]["loss"] < records(run)[0]["loss"]
    best = max(record["attribute_accuracy"] for record in records(run))
    assert result["attribute_accuracy"] == pytest.approx(best, abs=1e-4)
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == EPOCHS
    assert list((run / "tensorboard").glob("events*"))
    assert "</html>" in (run / "report.html").read_text()
    assert {path.name for path in (run / "model").iterdir()} == {
        "README.md",
        "model.json",
        "model.safetensors",
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--batch.people", "300"], "needs 300 people"),
        (["--network.backbone", "resnet_tinny"], "did you mean 'resnet_tiny'"),
        (["--output", "pyproject.toml"], "pyproject.toml"),
        (["--use-gpu", "yes"], "need a GPU each and the cluster has 0"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_leaves_nothing(
    crops, tmp_path, arguments, complaint
):
    job = start("--data", crops, "--output", tmp_path / "run", *SHORT, *arguments)
    code, output, messages = finish(job)
    assert (code, output) == (2, "")
    (line,) = [line for line in messages.splitlines() if line.startswith("error")]
    assert complaint in line
    assert "Traceback" not in messages
    assert not list(tmp_path.iterdir())
