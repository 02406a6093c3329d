"""The alerts fire when nights are late, fail or hold unusual images, and are silent else.

promtool, which comes with Prometheus, evaluates them once over made nights of several outputs.
"""

import re
import shutil
import subprocess

import pytest
import yaml
from support.monitoring_files import MONITORING, alerts

NOW = 20 * 24
"""The hour of the evaluation."""

USUAL = {"images": 1000, "quarantined_images": 2, "new_images": 10, "changed_images": 1}
ALERT = re.compile(r'alertname="(\w+)", output="([^"]+)"')


def night(hours_ago, outcome="succeeded", **counts):
    """Return when a night ended, and the values of its metrics by name and further label."""
    hour = NOW - hours_ago
    values = {("end_timestamp_seconds", f'outcome="{outcome}"'): hour * 3600}
    if outcome == "succeeded":
        for name, value in (USUAL | counts).items():
            label = 'role="gallery"' if name != "quarantined_images" else ""
            values[name, label] = value
    return hour, values


def nights(*hours_ago, **counts):
    return [night(each, **counts) for each in hours_ago]


def fortnight(last):
    """Return the hours ago of 13 nights, the last of them `last` hours ago."""
    return [last + 24 * day for day in range(13)]


BEFORE = nights(*fortnight(25))
CASES = {
    "usual": (nights(*fortnight(1)), set()),
    "29 hours": (nights(*fortnight(29)), set()),
    "31 hours": (nights(*fortnight(31)), {"ReidrayNightLate"}),
    "a single run": (nights(31), set()),
    "failed": ([*BEFORE, night(1, "failed")], {"ReidrayNightFailed"}),
    "the first failed": ([night(1, "failed")], {"ReidrayNightFailed"}),
    "failed, then not": ([*BEFORE, night(2, "failed"), night(1)], set()),
    "bad": ([*BEFORE, night(1, quarantined_images=6)], {"ReidrayManyBadImages"}),
    "few bad": ([*BEFORE, night(1, quarantined_images=4)], set()),
    "new": ([*BEFORE, night(1, new_images=60)], {"ReidrayManyNewImages"}),
    "few new": ([*BEFORE, night(1, new_images=49)], set()),
    "always new": (nights(*fortnight(1), new_images=100), set()),
    "new at first": (nights(1, new_images=900), set()),
    "changed": ([*BEFORE, night(1, changed_images=51)], {"ReidrayManyChangedImages"}),
    "few changed": ([*BEFORE, night(1, changed_images=49)], set()),
    "bad before": ([*BEFORE[1:], night(25, quarantined_images=50), night(1)], set()),
}


@pytest.fixture(scope="module")
def firing(tmp_path_factory):
    """Return the names of the alerts that fire for each case."""
    series = [
        {
            "series": f'ray_reidray_nightly_{name}{{output="{case}", WorkerId="{hour}", {label}}}',
            "values": f"_x{hour} {value} stale",
        }
        for case, (given, _) in CASES.items()
        for hour, values in given
        for (name, label), value in values.items()
    ]
    silent = [{"eval_time": f"{NOW}h", "alertname": name, "exp_alerts": []} for name in alerts()]
    case = {"interval": "1h", "input_series": series, "alert_rule_test": silent}
    test = {"rule_files": [str(MONITORING / "alerts.yml")], "evaluation_interval": "1h"}
    file = tmp_path_factory.mktemp("alerts") / "test.yml"
    file.write_text(yaml.safe_dump(test | {"tests": [case]}))
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert "alertname: " in done.stdout + done.stderr  # some alerts fire, which is told so
    found = {case: set() for case in CASES}
    for name, case in ALERT.findall(done.stdout + done.stderr):
        found[case].add(name)
    return found


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
@pytest.mark.parametrize("case", CASES)
def test_alerts_fire_for_unusual_nights_alone(firing, case):
    assert firing[case] == CASES[case][1]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_accepts_the_files():
    for words in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        kind, name = words
        lint = ["--lint=all", "--lint-fatal"]
        done = subprocess.run(
            ["promtool", "check", kind, *lint, MONITORING / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
