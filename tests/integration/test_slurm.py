"""A training over two nodes by the script for Slurm, with real Ray in namespaces of its own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from reidray.demo import generate_demo_set

NODES = ROOT / "tests" / "support" / "slurm"
IN_NAMESPACES = shlex.split("unshare --user --map-root-user --net --pid --fork --mount-proc")
SHORT = shlex.split(
    "--recipe demo --epochs 1 --batch.people 6 --network.height 32 --network.width 16 "
    "--network.feature-size 32 --num-workers 2 --use-gpu no"
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def slurm(tmp_path):
    """Return a function that runs a batch script of two nodes, and returns how it ended."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))) or subprocess.call(
        [*IN_NAMESPACES, "ip", "link", "add", "end1", "type", "veth", "peer", "name", "end2"]
    ):
        pytest.skip("needs util-linux, iproute2 and the right to make namespaces")
    programs = Path(sys.executable).parent

    def run(script, *arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
            "PATH": f"{NODES}:{programs}:{os.environ['PATH']}",
            "RAY_worker_niceness": "0",
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "2",
            "SLURM_SUBMIT_DIR": str(ROOT),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        return subprocess.run(
            [NODES / "two_nodes", ROOT / "cluster" / "slurm" / script, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )

    return run


def test_a_training_over_two_nodes_leaves_a_model_and_no_token(slurm, tmp_path):
    generate_demo_set(tmp_path / "data", people=12, images=120)
    done = slurm("train.sbatch", tmp_path / "run", "--data", tmp_path / "data" / "train", *SHORT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "2 workers" in done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(line)["model"]
    assert list((tmp_path / "state" / "reidray" / "slurm").iterdir()) == []
