"""Trainings start from a file of Torchreid in a bucket, which only the driver reads, and once."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.paths import ROOT
from support.training_folders import write_person_folders

from reidray.models import build_model
from reidray.storage.location import Location

pytestmark = pytest.mark.cluster

FLAGS = [
    "--network.name",
    "baseline",
    "--network.backbone",
    "resnet_tiny",
    "--network.height",
    "32",
    "--network.width",
    "16",
    "--batch.people",
    "4",
    "--batch.crops",
    "2",
    "--val-fraction",
    "0.3",
    "--epochs",
    "1",
    "--validation.every",
    "1",
    "--num-workers",
    "2",
    "--optimizer.learning-rate",
    "1e-9",
    "--optimizer.weight-decay",
    "0",
]


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (self.mark.touch, ())


def train(*arguments):
    command = [sys.executable, ROOT / "jobs" / "train_reid.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def upload(bucket, name, value):
    file = io.BytesIO()
    torch.save(value, file)
    Location(bucket).write_bytes(name, file.getvalue())
    return f"{bucket}/{name}"


@pytest.mark.slow
def test_each_worker_starts_from_the_file_and_a_resumed_run_needs_it_no_more(
    bucket, ray_address, tmp_path
):
    torch.manual_seed(7)
    body = build_model("baseline", backbone="resnet_tiny", num_people=9).backbone.body
    state = {f"module.{name}": value for name, value in body.state_dict().items()}
    state["module.classifier.weight"] = torch.ones(751, 768)
    checkpoint = {"state_dict": state, "epoch": 60, "rank1": np.float64(0.9)}
    weights = upload(bucket, "osnet/model.pth.tar-60", checkpoint)
    data, run = write_person_folders(tmp_path / "data", 12), tmp_path / "run"
    started = ("--data", data, *FLAGS, "--output", run, "--network.weights", weights)
    done = train(*started, "--ray-address", ray_address)
    assert done.returncode == 0, done.stderr
    assert "100.0% match" in done.stderr
    assert "module.* as backbone.body.*" in done.stderr
    model = load_file(run / "model" / "model.safetensors")
    kernels = [name for name, value in body.named_parameters() if value.ndim == 4]
    for name in kernels:
        value = dict(body.named_parameters())[name]
        assert torch.allclose(model[f"backbone.body.{name}"], value, atol=1e-6), name
    report = json.loads((run / "weights.json").read_text())
    assert report["source"] == weights
    assert "First weights" in (run / "report.html").read_text()

    Location(bucket).delete_file("osnet/model.pth.tar-60")
    done = train("--resume", run, "--ray-address", ray_address)
    assert done.returncode == 0, done.stderr
    assert "First weights" in (run / "report.html").read_text()


def test_bad_weights_end_the_job_before_ray_and_leave_nothing(bucket, tmp_path):
    data, mark = write_person_folders(tmp_path / "data", 12), tmp_path / "ran"
    bomb = upload(bucket, "bomb.pth", {"state_dict": Bomb(mark)})
    environment = sorted(path.name for path in tmp_path.iterdir())
    done = train("--data", data, *FLAGS, "--output", tmp_path / "run", "--network.weights", bomb)
    assert done.returncode == 2, done.stderr
    (message,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert message.startswith(f"error: --network.weights {bomb}: is refused, because it names code")
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == environment
    assert not mark.exists()
