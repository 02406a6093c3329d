"""Compute the metrics of rankings, classes, masks and attributes.

The names load on first use: the metrics of classes and attributes need no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

MODULES = {
    "AP_RULES": "ranking",
    "PROTOCOLS": "protocols",
    "UNMATCHED_RULES": "ranking",
    "OpenSetMetrics": "open_set",
    "OperatingPoint": "open_set",
    "RankingMetrics": "ranking",
    "evaluate": "ranking",
    "evaluate_open_set": "open_set",
}


def __getattr__(name: str) -> Any:
    """Return a name of the package, and load its module."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
