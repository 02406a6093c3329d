"""The whole way on Market-1501 in the Trento layout, where it lies beside the checkout."""

import json
import subprocess
import sys

import pytest
from support.paths import ROOT

from reidray.scoring.ranking_file import read_ranking

MARKET = ROOT.parent / "shared" / "data" / "market-trento"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MARKET.is_dir(), reason="market-trento is not beside the checkout"),
]


def run(job, *arguments):
    command = [sys.executable, ROOT / "jobs" / f"{job}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_three_minutes_of_training_beat_chance_and_every_image_is_scored(tmp_path):
    trained = run(
        "train_reid",
        *("--data", MARKET, "--recipe", "market_small", "--output", tmp_path / "run"),
        *("--max-minutes", 3, "--num-workers", 2),
    )
    assert trained["seconds"] < 200
    assert trained["mean_ap"] > 0.15
    assert trained["attribute_accuracy"] > trained["attribute_majority"]
    scored = run(
        "score_nightly",
        *("--model", trained["model"], "--queries", MARKET / "queries"),
        *("--gallery", MARKET / "test", "--output", tmp_path / "scores"),
    )
    assert (scored["queries"], scored["gallery"], scored["quarantined"]) == (2_248, 19_679, 0)
    ranking = read_ranking((tmp_path / "scores" / "reid_test.txt").read_bytes(), "reid_test.txt")
    assert len(ranking) == 2_248
    assert {len(set(names)) for names in ranking.values()} == {50}
    rows = (tmp_path / "scores" / "classification_test.csv").read_text().splitlines()
    assert len(rows) == 1 + 19_679
