"""Measure a nightly run from the start of its process to its files."""

import json
import os
import subprocess
import sys
import time

from measuring import PROJECT, Reach, Row

REACH_SECONDS = 12


def measure_nightly_run(model, queries, gallery, output, *, seconds_allowed, use_gpu):
    """Return the row of `jobs/score_nightly.py`.

    Raises:
        RuntimeError: the job fails; the message is the last line that it printed.
    """
    command = [sys.executable, str(PROJECT / "jobs" / "score_nightly.py"), "--model", str(model)]
    command += ["--queries", str(queries), "--gallery", str(gallery), "--output", str(output)]
    command += ["--use-gpu", "yes" if use_gpu else "no"]
    packages = [str(PROJECT), os.environ.get("PYTHONPATH", "")]  # it may be installed nowhere
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, packages))}
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds_allowed,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"exit status {done.returncode}: {lines[-1]}")
    result = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads((output / "scoring.json").read_text())
    images = summary["queries"] + summary["gallery"]
    kept = ("images_per_second", "images_per_second_steady", "input_wait")
    return Row(
        name=f"nightly run of {images:,} crops, start to files",
        unit="s",
        ours=seconds,
        reach=Reach("at most", REACH_SECONDS, "s"),
        details={
            **{f"{stage} s": taken for stage, taken in summary["stages"].items()},
            "workers": summary["workers"],
            **{key: result[key] for key in kept if key in result},
        },
    )
