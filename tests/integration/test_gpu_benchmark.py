"""Run the GPU benchmark on a CPU, so that it works where it is needed."""

import json
import os
import subprocess
import sys

from support.paths import ROOT


def run_tiny(*more):
    """Return the lines that the script prints on small sizes, and its summary."""
    script = ROOT / "tests" / "benchmarks" / "gpu" / "run.py"
    command = [sys.executable, script, "--device", "cpu", "--tiny", "--no-processes", *more]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads take longer to meet than to compute
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=alone)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    return lines, json.loads(lines[-1])


def test_all_rows_and_checks_run_on_a_cpu():
    lines, summary = run_tiny("--seconds", "1000")
    assert summary["failed"] == {}
    assert summary["dropped"] == []
    assert len(summary["checks"]) == 13
    works = {row["name"].split()[0] for row in summary["rows"]}
    assert works == {"evaluate", "top_k", "train", "embed"}
    for row in summary["rows"]:
        assert row["ours"] > 0
        assert row["ratio"] == row["ours"] / row["bare"]
        assert sum(line.startswith(f"{row['name']} ") for line in lines) == 2, (
            "a line and the table"
        )


def test_work_beyond_the_limit_of_time_is_dropped_and_named():
    lines, summary = run_tiny("--seconds", "0")
    assert summary["rows"] == []
    assert summary["checks"] == {}
    assert "top_k on cpu" in summary["dropped"]
    assert "dropped for lack of time: top_k on cpu" in lines
