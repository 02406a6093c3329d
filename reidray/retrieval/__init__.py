"""Rank a gallery by its distance to each query."""

from reidray.retrieval.candidate_reranking import joint_sets, rerank_candidates
from reidray.retrieval.distances import DISTANCE_METRICS
from reidray.retrieval.exact_search import top_k
from reidray.retrieval.knn import knn_classify, vote_attributes
from reidray.retrieval.query_expansion import expand_from_neighbours, expand_queries
from reidray.retrieval.reranking import Reranking, rerank

__all__ = [
    "DISTANCE_METRICS",
    "Reranking",
    "expand_from_neighbours",
    "expand_queries",
    "joint_sets",
    "knn_classify",
    "rerank",
    "rerank_candidates",
    "top_k",
    "vote_attributes",
]
