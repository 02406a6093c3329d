"""Measure what early stopping saves and what Tune costs: one sweep twice, with the same draws.

Run with `pytest -m benchmark -s tests/benchmarks/test_sweep_epochs.py`. Prints a table and one JSON
line.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from reidray.config.tuning import TuneConfig
from reidray.demo import generate_demo_set
from reidray.ray_runtime import ray_session
from reidray.tuning.sweep import prepare_sweep, run_sweep

TRIALS, EPOCHS = 12, 9
SPACE = {
    "batch.people": {"choice": [4, 8, 16]},
    "optimizer.learning_rate": {"loguniform": [1e-5, 2e-2]},
    "augment.erasing": {"choice": [0.0, 0.5]},
}

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.fixture
def asked(tmp_path):
    """A sweep of the drawn people's recipe."""
    generate_demo_set(tmp_path / "data", people=60, images=900)
    validation = {"every": 1, "select_by": "mean_ap"}
    base = {"epochs": EPOCHS, "val_fraction": 0.25, "validation": validation}
    for name, content in (("base", base), ("space", SPACE)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return TuneConfig(
        data=str(tmp_path / "data"),
        output=str(tmp_path / "early"),
        recipe="demo",
        base=str(tmp_path / "base.yaml"),
        space=(str(tmp_path / "space.yaml"),),
        num_samples=TRIALS,
        first_rung=1,
    )


def draws(made):
    """Return the settings that each trial drew."""
    return [
        [row[key] for key in ("trial", *SPACE)]
        for row in csv.DictReader(Path(made["table"]).open())
    ]


def test_epochs_that_are_saved(asked, tmp_path):
    found = {}
    with ray_session("local"):
        for name, early in (("stopped early", True), ("in full", False)):
            config = replace(asked, output=str(tmp_path / name), stop_early=early)
            found[name] = run_sweep(prepare_sweep(config))
    early, full = found.values()
    assert draws(early) == draws(full)
    print(f"\n{TRIALS} trials of up to {EPOCHS} epochs, {full['at_once']} at once")
    figures = {}
    for name, made in found.items():
        # All that the places of the trials were not trained in, an empty one at the end included.
        places = made["sweep_seconds"] * made["at_once"]
        figures[name] = {
            "epochs": made["epochs_spent"],
            "mean_ap": made["mean_ap"],
            "best_trial": made["best_trial"],
            "seconds": made["sweep_seconds"],
            "overhead_seconds_per_trial": round((places - made["training_seconds"]) / TRIALS, 2),
            "overhead_share": round(1 - made["training_seconds"] / places, 3),
        }
        print(
            f"{name:14} {made['epochs_spent']:4} epochs, best mAP {made['mean_ap']:.3f} (trial "
            f"{made['best_trial']}), {made['sweep_seconds']:6.1f} s, beside training "
            f"{figures[name]['overhead_seconds_per_trial']:.1f} s a trial, "
            f"{figures[name]['overhead_share']:.0%}"
        )
    print(json.dumps(figures))
    assert full["epochs_spent"] == TRIALS * EPOCHS
    assert early["epochs_spent"] <= full["epochs_spent"] / 2
    assert early["mean_ap"] >= full["mean_ap"]
    assert all(made["overhead_seconds_per_trial"] < 15 for made in figures.values())
