"""Run short sweeps over synthetic people in processes of their own."""

import json
import subprocess
import sys

import yaml

from reidray.demo import generate_demo_set
from reidray.storage.location import Location
from support.paths import ROOT

EPOCHS = 6
BASE = {
    "epochs": EPOCHS,
    "network": {"height": 32, "width": 16, "feature_size": 32},
    "validation": {"every": 1},
}
SPACE = {
    "batch.people": {"choice": [6, 12]},
    "optimizer.learning_rate": {"loguniform": [1e-5, 1e-2]},
}


def make_inputs(folder):
    """Draw people, and write the base and the search space of a sweep."""
    generate_demo_set(folder / "data", people=40, images=480)
    for name, content in (("base", BASE), ("space", SPACE)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def flags(given, output, *more, space="space.yaml", base="base.yaml"):
    return [
        *("--data", given / "data", "--recipe", "demo", "--base", given / base),
        *("--space", given / space, "--output", output, *more),
    ]


def start(given, output, *more, **settings):
    asked = map(str, flags(given, output, *more, **settings))
    command = [sys.executable, ROOT / "jobs" / "tune.py", *asked]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job):
    try:
        output, messages = job.communicate(timeout=250)
    finally:
        job.kill()  # one that hangs must not outlive its test
    return job.returncode, output, messages


def ended_trials(output):
    """Return the epochs that Tune has recorded of each trial that ran to its end."""
    state, found = Location(f"{output}/tune"), {}
    files = state.list_files() if state.is_dir() else []
    for file in (name for name in files if name.endswith("/result.json")):
        epochs = [json.loads(line)["epoch"] for line in state.read_bytes(file).splitlines()]
        if epochs[-1:] == [EPOCHS]:
            found[file.partition("/")[0]] = epochs
    return found
