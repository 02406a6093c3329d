import numpy as np
import pytest

from reidray.config import MultitaskValidationConfig, ReidValidationConfig
from reidray.reporting.charts.sweep_charts import parallel_chart, parameter_importance
from reidray.reporting.sweep_report import ReportedTrial, render_sweep_report


def trial(number, metrics, state="finished", error=None, **parameters):
    return ReportedTrial(
        name=str(number),
        number=number,
        state=state,
        parameters=parameters,
        epochs=list(range(1, len(metrics) + 1)),
        metrics=metrics,
        best=max(metrics, default=None),
        seconds=12.0,
        error=error,
    )


def report(trials, best, **settings):
    asked = {"name": "one", "validation": ReidValidationConfig(), "logarithmic": []}
    keys = list(trials[0].parameters)
    return render_sweep_report(**asked | settings, keys=keys, trials=trials, best=trials[best])


def test_the_report_lists_every_trial_and_the_best_first():
    trials = [
        trial(0, [0.2, 0.4], rate=0.1, mining="hard"),
        trial(1, [0.3, 0.7, 0.6], rate=0.2, mining="semihard"),
        trial(2, [0.1], "stopped early", rate=0.3, mining="hard"),
        trial(3, [], "failed", "the loss is <nan>", rate=9.0, mining="hard"),
    ]
    html = report(trials, 1)
    rows = html[html.index("<h2>Trials</h2>") :]
    places = [rows.index(f'<th scope="row" class="number">{n}</th>') for n in (1, 0, 2, 3)]
    assert places == sorted(places)
    assert "The best is trial 1, with mean_ap 0.700" in html
    assert "4 trials, 1 stopped early, 1 failed" in html
    assert "Trial 3 failed: the loss is &lt;nan&gt;" in html
    assert "The importance of the parameters needs more trials" in html
    assert "Importance of each parameter" not in html


def test_the_lowest_loss_is_the_best():
    trials = [trial(number, [loss], rate=0.1 * number) for number, loss in enumerate([0.9, 0.2])]
    html = report(trials, 1, validation=MultitaskValidationConfig())
    rows = html[html.index("<h2>Trials</h2>") :]
    assert rows.index(">0.200<") < rows.index(">0.900<")


def test_a_sweep_may_have_one_trial():
    assert "The best is trial 0" in report([trial(0, [0.5], rate=0.1)], 0)


def test_a_parameter_that_the_metric_follows_is_the_most_important():
    random = np.random.default_rng(0)
    values = [
        {"rate": random.uniform(), "mining": random.choice(["a", "b"]), "flip": random.uniform()}
        for _ in range(40)
    ]
    shares = parameter_importance(values, [v["rate"] + 0.2 * (v["mining"] == "b") for v in values])
    assert shares["rate"] > shares["mining"] > shares["flip"]
    assert sum(shares.values()) == pytest.approx(1)
    assert set(parameter_importance(values, [0.5] * 40).values()) == {0.0}


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
