"""Read the metrics that the node of a Ray on this machine exports, as Prometheus does."""

import urllib.request

import ray
from prometheus_client.parser import text_string_to_metric_families

FROM_RAY = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}


def scrape(output=None):
    """Return what the one node of the Ray of this process exports.

    Args:
        output: label `output` of the samples; by default all samples.

    Returns:
        Names of metrics and other labels than those of Ray, to values.
    """
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, *own_labels(sample)): sample.value
        for family in families
        for sample in family.samples
        if output is None or sample.labels.get("output") == str(output)
    }


def own_labels(sample):
    return (
        f"{name}={value}"
        for name, value in sorted(sample.labels.items())
        if name != "output" and name not in FROM_RAY and not name.startswith("otel_")
    )
