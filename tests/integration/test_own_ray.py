"""The Ray that a job starts for itself: only where it is needed, and reached by nobody else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import psutil
import pytest
from support.nightly_runs import ROOT, draw_images
from support.processes import named_descendants
from support.sockets import is_loopback, listening_addresses
from support.training_folders import write_person_folders

pytestmark = pytest.mark.cluster

JOB = ROOT / "jobs" / "score_nightly.py"
RUN_AND_TELL = """
import runpy, sys
runpy.run_path(sys.argv.pop(1), run_name="__main__")
print(sorted({"ray", "timm", "rich", "sklearn", "torch._dynamo"} & set(sys.modules)))
"""


@pytest.fixture
def command(model, tmp_path):
    images = draw_images(tmp_path / "images", people=10, variants=3)
    return [
        *(JOB, "--model", model, "--queries", images / "queries"),
        *("--gallery", images / "gallery", "--output", tmp_path / "out"),
    ]


def test_a_nightly_run_with_little_to_embed_imports_nothing_that_it_can_do_without(command):
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    told, imported = done.stdout.splitlines()
    assert json.loads(told)["embedded"] == 40
    assert imported == "[]"


def test_a_scheduler_ends_a_nightly_run_and_its_ray_within_five_seconds(command, tmp_path):
    job = subprocess.Popen(
        [sys.executable, *map(str, command), "--num-workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes = {}
    while not any(name.startswith("ray::Embed") for name in processes.values()):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
        processes = named_descendants(job.pid)
    began = time.monotonic()
    job.send_signal(signal.SIGTERM)
    said, messages = job.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (job.returncode, said) == (143, "")
    assert messages.splitlines()[-1] == "interrupted by SIGTERM"
    assert "Traceback" not in messages
    assert "stack trace" not in messages
    assert psutil.wait_procs(list(processes), timeout=2)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.timeout(600)
def test_the_ray_of_a_job_and_its_training_processes_listen_to_this_machine_alone(tmp_path):
    folder = tmp_path / ("long" * 25)  # longer than the address of a socket may be
    folder.mkdir()
    people = write_person_folders(tmp_path / "people", people=16)
    job = subprocess.Popen(
        [
            *(sys.executable, ROOT / "jobs" / "train_reid.py", "--data", people),
            *("--output", tmp_path / "run", "--recipe", "demo", "--epochs", "1"),
            *("--network.height", "32", "--network.width", "16", "--network.feature-size", "32"),
            *("--num-workers", "2", "--use-gpu", "no", "--no-images"),
        ],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    places = defaultdict(set)
    while job.poll() is None:
        for process, name in named_descendants(job.pid).items():
            places[name.partition(".")[0]] |= listening_addresses([process.pid])
        time.sleep(1)
    _, complaint = job.communicate()
    assert job.returncode == 0, complaint
    assert {"gcs_server", "raylet"} <= places.keys()
    # Ray and Gloo listen in both processes, and PyTorch's store in one.
    assert len(places["ray::RayTrainWorker"]) >= 5
    addresses = {address for found in places.values() for address, _ in found}
    assert all(map(is_loopback, addresses)), places
