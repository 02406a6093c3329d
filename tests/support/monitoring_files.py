"""Find the expressions in the files of cluster/monitoring, and the metrics that they name."""

import json

import promql_parser
import yaml

from support.paths import ROOT

MONITORING = ROOT / "cluster" / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
NODE_METRICS = {"ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"}
GPU_METRICS = {"ray_node_gpus_utilization", "ray_node_gram_used"}
"""Metrics of Ray itself that the dashboards show: those of every node, and those of its GPUs."""


def alerts():
    """Return the expressions of the alerts by name."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def dashboard_expressions():
    """Return the expressions of panels by file, title and place, without variables."""
    return {
        (path.stem, panel["title"], place): target["expr"]
        .replace("$__interval", "1h")
        .replace("$output", ".*")
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for place, target in enumerate(panel["targets"])
    }


def iter_selectors(expression):
    """Yield the selectors of metrics in a parsed expression.

    Raises:
        TypeError: the expression has a kind of part that this function does not know.
    """
    match expression:
        case promql_parser.VectorSelector():
            yield expression
        case promql_parser.MatrixSelector():
            yield expression.vector_selector
        case promql_parser.BinaryExpr():
            yield from iter_selectors(expression.lhs)
            yield from iter_selectors(expression.rhs)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr():
            yield from iter_selectors(expression.expr)
        case promql_parser.Call():
            for each in expression.args:
                yield from iter_selectors(each)
        case promql_parser.NumberLiteral():
            return
        case _:
            raise TypeError(f"unknown part of an expression: {expression}")
