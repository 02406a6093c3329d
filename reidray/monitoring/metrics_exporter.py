"""Export the metrics of a job through Ray, whose agent on each node answers Prometheus.

The process must be connected to Ray. Ray sends the values to the agent every 10 seconds, and when
the process leaves Ray. The agent forgets a gauge 20 seconds after it was last sent.
"""

import threading
from types import TracebackType
from typing import Self

from ray.util.metrics import Counter, Gauge

from reidray.monitoring.metric_definitions import MetricDefinition
from reidray.storage.location import Location

REFRESH_SECONDS = 5.0
"""Interval at which gauges are set again. Ray sends a gauge only if it was set since the last time,
10 seconds before."""


class MetricsExporter:
    """Export values under the output of a job.

    Within a block, the exporter keeps the last value of each gauge alive. Without one, Prometheus
    sees a value for 20 seconds.

    Args:
        output: folder or address of the results. It is the label `output` of all values, without
            the options of an address.
    """

    def __init__(self, output: str) -> None:
        self._output = Location(output).uri.partition("?")[0]
        self._instruments: dict[str, Gauge | Counter] = {}
        self._values: dict[tuple[MetricDefinition, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="metrics", daemon=True)

    def set(self, metric: MetricDefinition, value: float, /, **labels: str) -> None:
        """Set the value of a gauge."""
        with self._lock:
            self._values[metric, tuple(labels.items())] = value
            self._instrument(metric).set(value, {"output": self._output, **labels})

    def add(self, metric: MetricDefinition, amount: float) -> None:
        """Add to the sum of a counter."""
        if amount > 0:
            with self._lock:
                self._instrument(metric).inc(amount, {"output": self._output})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            with self._lock:
                values = list(self._values.items())
            for (metric, labels), value in values:
                self.set(metric, value, **dict(labels))

    def _instrument(self, metric: MetricDefinition) -> Gauge | Counter:
        if metric.name not in self._instruments:
            kind = Gauge if metric.kind == "gauge" else Counter
            labels = ("output", *metric.labels)
            self._instruments[metric.name] = kind(metric.name, metric.meaning, labels)
        return self._instruments[metric.name]
