"""What stopping weak trials early saves, and what Tune costs: one sweep twice, with the same draws.

Run with `pytest -m benchmark -s tests/benchmarks/test_sweep_epochs.py`. Prints a table and one JSON
line.
"""

import json
from dataclasses import replace

import pytest
import yaml

from reidray.data.demo import draw_demo_set
from reidray.session import ray_session
from reidray.tuning.config import TuneConfig
from reidray.tuning.sweep import prepare_sweep, run_sweep

TRIALS, EPOCHS = 12, 9

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.fixture
def asked(tmp_path):
    """A sweep of the drawn people's recipe."""
    draw_demo_set(tmp_path / "data", people=100, images=1500)
    base = {"epochs": EPOCHS, "validation": {"every": 1, "select_by": "mean_ap"}}
    space = {
        "batch.people": {"choice": [4, 8, 16]},
        "optimizer.learning_rate": {"loguniform": [1e-5, 2e-2]},
        "augment.erasing": {"choice": [0.0, 0.5]},
    }
    for name, content in (("base", base), ("space", space)):
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


def test_epochs_that_are_saved(asked, tmp_path):
    found = {}
    with ray_session("local"):
        for name, early in (("stopped early", True), ("in full", False)):
            config = replace(asked, output=str(tmp_path / name), stop_early=early)
            found[name] = run_sweep(prepare_sweep(config))
    print(f"\n{TRIALS} trials of up to {EPOCHS} epochs")
    figures = {}
    for name, made in found.items():
        overhead = (made["sweep_seconds"] * made["at_once"] - made["training_seconds"]) / TRIALS
        figures[name] = {
            "epochs": made["epochs_spent"],
            "mean_ap": made["mean_ap"],
            "seconds": made["sweep_seconds"],
            "overhead_seconds_per_trial": round(overhead, 2),
        }
        print(
            f"{name:14} {made['epochs_spent']:4} epochs, best mAP {made['mean_ap']:.3f}, "
            f"{made['sweep_seconds']:6.1f} s, {made['at_once']} at once, "
            f"{overhead:.1f} s of Tune a trial"
        )
    print(json.dumps(figures))
