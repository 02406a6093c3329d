"""Compute the metrics of rankings, classes, masks and attributes; see README.md.

The names load on first use: the metrics of classes and attributes need no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reidray.metrics.attribute_metrics import attribute_accuracy, majority_labels
    from reidray.metrics.bootstrap import bootstrap_intervals
    from reidray.metrics.classification import (
        ClassificationMetrics,
        MaskMetrics,
        count_mask_pixels,
        evaluate_classification,
        evaluate_masks,
    )
    from reidray.metrics.distractor_scores import (
        DistractorAUC,
        attribute_uncertainty,
        distractor_auc,
        mean_neighbour_distance,
    )
    from reidray.metrics.open_set import OpenSetMetrics, OperatingPoint, evaluate_open_set
    from reidray.metrics.protocols import PROTOCOLS, default_protocol
    from reidray.metrics.ranking import AP_RULES, UNMATCHED_RULES, RankingMetrics, evaluate
    from reidray.metrics.subgroups import subgroup_metrics

__all__ = [
    "AP_RULES",
    "PROTOCOLS",
    "UNMATCHED_RULES",
    "ClassificationMetrics",
    "DistractorAUC",
    "MaskMetrics",
    "OpenSetMetrics",
    "OperatingPoint",
    "RankingMetrics",
    "attribute_accuracy",
    "attribute_uncertainty",
    "bootstrap_intervals",
    "count_mask_pixels",
    "default_protocol",
    "distractor_auc",
    "evaluate",
    "evaluate_classification",
    "evaluate_masks",
    "evaluate_open_set",
    "majority_labels",
    "mean_neighbour_distance",
    "subgroup_metrics",
]

_MODULES = {
    "attribute_accuracy": "attribute_metrics",
    "majority_labels": "attribute_metrics",
    "bootstrap_intervals": "bootstrap",
    "ClassificationMetrics": "classification",
    "MaskMetrics": "classification",
    "count_mask_pixels": "classification",
    "evaluate_classification": "classification",
    "evaluate_masks": "classification",
    "DistractorAUC": "distractor_scores",
    "attribute_uncertainty": "distractor_scores",
    "distractor_auc": "distractor_scores",
    "mean_neighbour_distance": "distractor_scores",
    "OpenSetMetrics": "open_set",
    "OperatingPoint": "open_set",
    "evaluate_open_set": "open_set",
    "PROTOCOLS": "protocols",
    "default_protocol": "protocols",
    "AP_RULES": "ranking",
    "UNMATCHED_RULES": "ranking",
    "RankingMetrics": "ranking",
    "evaluate": "ranking",
    "subgroup_metrics": "subgroups",
}


def __getattr__(name: str) -> Any:
    """Return a name of the package, and load its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
