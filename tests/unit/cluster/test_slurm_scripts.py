"""The scripts for Slurm, with an `srun` that shows what it was asked for and runs nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from reidray.ray_runtime import WORKER_SETTINGS

SLURM = ROOT / "cluster" / "slurm"
SCRIPTS = sorted([*SLURM.iterdir(), *(ROOT / "tests" / "support" / "slurm").iterdir()])
SBATCH_FLAGS = {
    *("--job-name", "--nodes", "--ntasks-per-node", "--cpus-per-task", "--gpus-per-node"),
    *("--exclusive", "--time", "--requeue", "--open-mode", "--dependency"),
}
SRUN = """#!/bin/sh
case "$*" in
*/address) echo 10.0.0.1 ;;
*) echo "srun $*" && env | grep -E '^(RAY_|GOMP|MALLOC)' &&
    echo "MODE=$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" ;;
esac
"""


@pytest.fixture
def submit(tmp_path):
    """Return a function that runs a script as Slurm would, and returns its status and output."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)

    def run(script, *arguments, **variables):
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_SUBMIT_DIR": str(ROOT),
        }
        return subprocess.run(
            [SLURM / script, *map(str, arguments)],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    command = [Path(sys.executable).with_name("shellcheck"), script]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")
    assert os.access(script, os.X_OK)


def asked(done):
    """Return the command of the job that the nodes would run."""
    (line,) = re.findall(r"^srun .*", done.stdout, re.MULTILINE)
    return line.partition("/status ")[2]


def test_a_training_writes_into_the_run_that_is_named_first(submit, tmp_path):
    run = tmp_path / "run"
    done = submit("train.sbatch", run, "--data", "CROPS")
    assert asked(done) == f"python {ROOT}/jobs/train_reid.py --output {run} --data CROPS"


def test_a_requeued_training_continues_its_run(submit, tmp_path):
    run = tmp_path / "run"
    again = submit("train.sbatch", run, "--data", "CROPS", SLURM_RESTART_COUNT="1")
    assert asked(again).endswith(f"--output {run} --data CROPS")  # it had not begun
    run.mkdir()
    (run / "config.yaml").touch()
    again = submit("train.sbatch", run, "--data", "CROPS", SLURM_RESTART_COUNT="1")
    assert asked(again) == f"python {ROOT}/jobs/train_reid.py --resume {run}"
    other = submit("train.sbatch", run, "--data", "CROPS")
    assert asked(other).endswith(f"--output {run} --data CROPS")


def only_mistake(done):
    """Return the line of a mistake of the user's."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("arguments", [(), ("--data", "CROPS")])
def test_a_training_without_a_run_is_a_mistake(submit, arguments):
    assert "give the run directory first" in only_mistake(submit("train.sbatch", *arguments))


@pytest.mark.parametrize("script", ["train.sbatch", "nightly.sbatch"])
def test_a_job_from_another_folder_is_a_mistake(submit, script, tmp_path):
    done = submit(script, "run", SLURM_SUBMIT_DIR=str(tmp_path))
    assert f"{tmp_path} is not the folder of reidray" in only_mistake(done)


def test_an_interface_without_an_address_is_a_mistake(submit):
    done = submit("address", REIDRAY_INTERFACE="no-such-name")
    assert "on an interface no-such-name" in only_mistake(done)
    assert submit("address", REIDRAY_INTERFACE="lo").stdout == "127.0.0.1\n"


def test_a_project_without_its_environment_is_a_mistake(submit, tmp_path):
    copy = shutil.copytree(SLURM, tmp_path / "cluster" / "slurm")
    done = submit(copy / "run", "true", PATH="/usr/bin:/bin")
    assert f"no environment of reidray in {tmp_path}: run uv sync" in only_mistake(done)


def test_a_nightly_run_takes_the_flags_of_the_job(submit):
    done = submit("nightly.sbatch", "--model", "M", "--output", "two words")
    assert asked(done) == f"python {ROOT}/jobs/score_nightly.py --model M --output two words"


def test_a_command_that_never_ran_is_a_failure(submit):
    done = submit("run", "true")
    assert done.returncode == 1
    assert done.stderr == "failed: the command did not run to its end; the lines above say why\n"


def test_outside_a_job_one_line_says_what_to_do(submit):
    done = submit("run", "true", SLURM_JOB_ID="")
    assert "no Slurm job" in only_mistake(done)


def test_nodes_get_the_address_the_token_and_the_settings_of_workers(submit, tmp_path):
    done = submit("run", "true")
    assert "/node 10.0.0.1:24567 " in done.stdout
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if not line[0].islower())
    assert found.items() >= WORKER_SETTINGS.items()
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["MODE"] == "600"
    token = Path(found["RAY_AUTH_TOKEN_PATH"])
    assert token.is_relative_to(tmp_path)
    assert not token.exists()  # the job has ended


def test_all_nodes_are_asked_for_once(submit):
    (line,) = re.findall(r"^srun .*", submit("run", "true").stdout, re.MULTILINE)
    words = line.split()
    assert {"--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"} <= set(words)


@pytest.mark.parametrize("script", ["train.sbatch", "nightly.sbatch"])
def test_jobs_take_whole_nodes(script):
    lines = (SLURM / script).read_text().splitlines()
    options = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    assert {"--exclusive", "--ntasks-per-node=1", "--gpus-per-node=1"} <= options
    assert {option.partition("=")[0] for option in options} <= SBATCH_FLAGS
    assert ("--open-mode=append" in options) == (script == "train.sbatch")
    assert ("--requeue" in options) == (script == "train.sbatch")
    assert ("--dependency=singleton" in options) == (script == "nightly.sbatch")
