"""Ranking a gallery by its likeness to a query, and saying how good the ranking is."""

from reidray.retrieval.distances import METRICS
from reidray.retrieval.expansion import expand_queries
from reidray.retrieval.metrics import AP_RULES, UNMATCHED_RULES, RankingMetrics, evaluate
from reidray.retrieval.neighbours import PersonAccuracies, classify, compare_accuracies
from reidray.retrieval.open_set import OpenSetMetrics, OperatingPoint, open_set
from reidray.retrieval.protocols import PROTOCOLS
from reidray.retrieval.ranking import top_k
from reidray.retrieval.reranking import Reranking, rerank

__all__ = [
    "AP_RULES",
    "METRICS",
    "PROTOCOLS",
    "UNMATCHED_RULES",
    "OpenSetMetrics",
    "OperatingPoint",
    "PersonAccuracies",
    "RankingMetrics",
    "Reranking",
    "classify",
    "compare_accuracies",
    "evaluate",
    "expand_queries",
    "open_set",
    "rerank",
    "top_k",
]
