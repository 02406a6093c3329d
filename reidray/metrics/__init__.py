"""Compute the metrics of rankings, classes, masks and attributes."""

from reidray.metrics.open_set import OpenSetMetrics, OperatingPoint, evaluate_open_set
from reidray.metrics.protocols import PROTOCOLS
from reidray.metrics.ranking import AP_RULES, UNMATCHED_RULES, RankingMetrics, evaluate

__all__ = [
    "AP_RULES",
    "PROTOCOLS",
    "UNMATCHED_RULES",
    "OpenSetMetrics",
    "OperatingPoint",
    "RankingMetrics",
    "evaluate",
    "evaluate_open_set",
]
