"""Prometheus and Grafana read the files of cluster/monitoring, which name metrics that exist."""

import json
import random
import re

import promql_parser
import pytest
import yaml
from jsonschema import Draft202012Validator
from support.dashboards import find_lost
from support.kubernetes_schemas import find_problem
from support.misspelt_keys import key_paths, with_typo
from support.monitoring_files import (
    DASHBOARDS,
    GPU_METRICS,
    MONITORING,
    NODE_METRICS,
    alerts,
    dashboard_expressions,
    iter_selectors,
)
from support.paths import ROOT

from reidray.monitoring.metric_definitions import DEFINITIONS

KUBERNETES = ROOT / "cluster" / "kuberay" / "overlays" / "monitoring"
RULE = KUBERNETES / "prometheus-rule.yaml"
OWN_LABELS = {each.exported_name: {"output", *each.labels} for each in DEFINITIONS}
LABELS_OF_NODES = {"instance", "GpuIndex"}
EXPRESSIONS = [*alerts().values(), *dashboard_expressions().values()]
ROW = re.compile(r"^\| `(ray_reidray_\w+)` \| (gauge|counter) \|([^|]*)\| (.*) \|$", re.MULTILINE)

SCRAPE_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["global", "rule_files", "scrape_configs"],
    "properties": {
        "global": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"scrape_interval": {"const": "10s"}, "evaluation_interval": {}},
            "required": ["scrape_interval"],
        },
        "rule_files": {"const": ["alerts.yml"]},
        "scrape_configs": {
            "items": {
                "additionalProperties": False,
                "required": ["job_name", "file_sd_configs"],
                "properties": {
                    "job_name": {"type": "string"},
                    "file_sd_configs": {
                        "items": {
                            "additionalProperties": False,
                            "required": ["files", "refresh_interval"],
                            "properties": {"files": {"type": "array"}, "refresh_interval": {}},
                        }
                    },
                },
            }
        },
    },
}
"""The settings of Prometheus that are used; promtool knows all."""


def test_every_metric_and_label_exists():
    for expression in EXPRESSIONS:
        for selector in iter_selectors(promql_parser.parse(expression)):
            known = OWN_LABELS.get(selector.name)
            if known is None:
                assert selector.name in {*NODE_METRICS, *GPU_METRICS}, expression
                known = LABELS_OF_NODES
            assert {each.name for each in selector.matchers.matchers} <= known, expression
    labels = {
        name
        for text in EXPRESSIONS
        for each in re.findall(r"by \(([^)]*)\)", text)
        for name in each.split(", ")
    }
    assert labels <= LABELS_OF_NODES.union(*OWN_LABELS.values())


def test_every_metric_is_shown():
    text = " ".join(dashboard_expressions().values())
    assert {name for name in OWN_LABELS if name not in text} == set()


def test_the_readme_has_the_table_of_the_metrics():
    rows = ROW.findall((MONITORING / "README.md").read_text())
    assert [(name, kind, meaning) for name, kind, _, meaning in rows] == [
        (each.exported_name, each.kind, each.meaning) for each in DEFINITIONS
    ]
    assert [tuple(re.findall(r"`(\w+)`", labels)) for _, _, labels, _ in rows] == [
        each.labels for each in DEFINITIONS
    ]


def test_names_end_with_the_unit_that_prometheus_recommends():
    for each in DEFINITIONS:
        assert each.name.startswith("reidray_")
        assert each.name.endswith("_total") is (each.kind == "counter")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_keeps_every_field_of_a_dashboard_and_no_misspelt_one(path):
    dashboard = json.loads(path.read_text())
    assert find_lost(dashboard) is None
    chosen, by_depth = random.Random(path.stem), {}
    for each in key_paths(dashboard):
        by_depth.setdefault(len(each), []).append(each)
    for paths in by_depth.values():
        for each in chosen.sample(paths, min(3, len(paths))):
            assert find_lost(with_typo(dashboard, each)) is not None, each


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_take_their_data_from_the_chosen_source(path):
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"reidray-{path.stem}"
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for where in [panel["gridPos"]]
        for x in range(where["x"], where["x"] + where["w"])
        for y in range(where["y"], where["y"] + where["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    names = {each["name"] for each in dashboard["templating"]["list"]}
    text = path.read_text()
    assert set(re.findall(r"\$\{?(\w+)", text)) <= names | {"__interval"}
    for panel in dashboard["panels"]:
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
        hides_nights = any("$__interval" in each["expr"] for each in panel["targets"])
        assert panel.get("interval") == ("1h" if hides_nights else None), panel["title"]


def test_the_scrape_configuration_has_known_keys_only():
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    Draft202012Validator(SCRAPE_SCHEMA).validate(config)
    (scraped,) = config["scrape_configs"]
    assert (scraped["file_sd_configs"][0]["files"]) == ["ray/prom_metrics_service_discovery.json"]


def test_the_rule_of_the_operator_holds_the_alerts():
    rule = yaml.safe_load(RULE.read_text())
    assert find_problem(rule) is None
    alerts = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    assert rule["spec"] == alerts, "write prometheus-rule.yaml again, as the README says"


def test_each_alert_says_what_is_wrong_and_is_explained():
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    readme = (MONITORING / "README.md").read_text()
    for rule in (rule for group in groups for rule in group["rules"]):
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "{{ $labels.output }}" in rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert f"| `{rule['alert']}` |" in readme


def test_a_pod_is_scraped_twice_before_its_last_values_end():
    monitor = yaml.safe_load((KUBERNETES / "pod-monitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["interval"] == "10s"
    base = ROOT / "cluster" / "kuberay" / "base" / "cluster" / "ray-cluster.yaml"
    head = yaml.safe_load(base.read_text())["spec"]["headGroupSpec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in head["containers"][0]["ports"]}
    policy = yaml.safe_load((KUBERNETES / "network-policy.yaml").read_text())
    (allowed,) = policy["spec"]["ingress"][0]["ports"]
    assert ports[endpoint["port"]] == allowed["port"]


def test_grafana_finds_prometheus_and_the_dashboards():
    folder = MONITORING / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    source = {"name": "Prometheus", "type": "prometheus", "isDefault": True}
    source |= {"url": "http://127.0.0.1:9090"}
    assert sources == {"apiVersion": 1, "datasources": [source]}
    providers = yaml.safe_load((folder / "dashboards" / "reidray.yml").read_text())
    provider = {"name": "reidray", "type": "file", "options": {"path": "$REIDRAY_DASHBOARDS"}}
    assert providers == {"apiVersion": 1, "providers": [provider]}
    assert "REIDRAY_DASHBOARDS" in (MONITORING / "README.md").read_text()
