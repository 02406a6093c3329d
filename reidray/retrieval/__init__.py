"""Rank a gallery by its distance to each query."""

from reidray.retrieval.distances import METRICS
from reidray.retrieval.expansion import expand_queries
from reidray.retrieval.neighbours import PersonAccuracies, classify, compare_accuracies
from reidray.retrieval.ranking import top_k
from reidray.retrieval.reranking import Reranking, rerank

__all__ = [
    "METRICS",
    "PersonAccuracies",
    "Reranking",
    "classify",
    "compare_accuracies",
    "expand_queries",
    "rerank",
    "top_k",
]
