"""Read the metrics that the node of a Ray on this machine exports, as Prometheus does."""

import threading
import time
import urllib.request
from contextlib import contextmanager

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
    with urllib.request.urlopen(url, timeout=60) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, *own_labels(sample)): sample.value
        for family in families
        for sample in family.samples
        if output is None or sample.labels.get("output") == str(output)
    }


@contextmanager
def scraping(output):
    """Scrape every second while a block runs, and once more; yield a dictionary of the last values.

    A job sends its last values as it leaves Ray, and they are there for 20 seconds.
    """
    values, ended = {}, threading.Event()

    def scrape_often():
        while not ended.wait(1):
            values.update(scrape(output))

    thread = threading.Thread(target=scrape_often)
    thread.start()
    try:
        yield values
    finally:
        ended.set()
        thread.join()
        time.sleep(2)
        values.update(scrape(output))


def own_labels(sample):
    return (
        f"{name}={value}"
        for name, value in sorted(sample.labels.items())
        if name != "output" and name not in FROM_RAY and not name.startswith("otel_")
    )
