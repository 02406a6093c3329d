import numpy as np
import pytest

from reidray.config import MultitaskValidationConfig, ReidValidationConfig
from reidray.reporting.charts.sweep_charts import importances, parallel_chart
from reidray.reporting.sweep_report import SweptTrial, sweep_page


def swept(number, figures, state="finished", error=None, **values):
    return SweptTrial(
        number=number,
        state=state,
        values=values,
        epochs=list(range(1, len(figures) + 1)),
        figures=figures,
        best=max(figures, default=None),
        seconds=12.0,
        error=error,
    )


def page(trials, chosen, **settings):
    asked = {"name": "one", "validation": ReidValidationConfig(), "logarithmic": []}
    keys = list(trials[0].values)
    return sweep_page(**asked | settings, keys=keys, trials=trials, chosen=chosen)


def test_every_trial_is_told_of_the_best_first():
    trials = [
        swept(0, [0.2, 0.4], rate=0.1, mining="hard"),
        swept(1, [0.3, 0.7, 0.6], rate=0.2, mining="semihard"),
        swept(2, [0.1], "stopped early", rate=0.3, mining="hard"),
        swept(3, [], "failed", "the loss is <nan>", rate=9.0, mining="hard"),
    ]
    html = page(trials, 1)
    rows = html[html.index("<h2>Trials</h2>") :]
    places = [rows.index(f'<th scope="row" class="number">{n}</th>') for n in (1, 0, 2, 3)]
    assert places == sorted(places)
    assert "The best is trial 1, with mean_ap 0.700" in html
    assert "4 trials, 1 stopped early, 1 failed" in html
    assert "Trial 3 failed: the loss is &lt;nan&gt;" in html
    assert "Importance needs more trials" in html
    assert "What mattered" not in html


def test_less_is_better_of_a_loss():
    trials = [swept(number, [loss], rate=0.1 * number) for number, loss in enumerate([0.9, 0.2])]
    html = page(trials, 1, validation=MultitaskValidationConfig())
    rows = html[html.index("<h2>Trials</h2>") :]
    assert rows.index(">0.200<") < rows.index(">0.900<")


def test_one_trial_is_a_sweep_too():
    assert "The best is trial 0" in page([swept(0, [0.5], rate=0.1)], 0)


def test_what_mattered_is_what_the_figure_follows():
    random = np.random.default_rng(0)
    values = [
        {"rate": random.uniform(), "mining": random.choice(["a", "b"]), "flip": random.uniform()}
        for _ in range(40)
    ]
    shares = importances(values, [v["rate"] + 0.2 * (v["mining"] == "b") for v in values])
    assert shares["rate"] > shares["mining"] > shares["flip"]
    assert sum(shares.values()) == pytest.approx(1)
    assert set(importances(values, [0.5] * 40).values()) == {0.0}


def test_names_and_numbers_have_axes_with_their_values():
    values = [{"rate": 10.0**-n, "mining": "hard" if n % 2 else "semihard"} for n in range(1, 9)]
    chart = parallel_chart(
        values,
        [0.1 * n for n in range(8)],
        validation=ReidValidationConfig(),
        logarithmic=["rate"],
    )
    for text in ("hard", "semihard", "0.1", "1e-08", "mean ap"):
        assert f">{text}<" in chart.svg
