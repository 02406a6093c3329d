"""Re-rank the nearest images of each query by k-reciprocal neighbours, in bounded memory."""

from reidray.retrieval.candidate_reranking.joint_sets import JointSets, joint_sets
from reidray.retrieval.candidate_reranking.reranked_candidates import rerank_candidates

__all__ = ["JointSets", "joint_sets", "rerank_candidates"]
