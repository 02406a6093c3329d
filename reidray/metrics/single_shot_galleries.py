"""Galleries of one random image per person, as the CUHK03 protocol ranks them."""

import numpy as np

from reidray.metrics.match_ranks import Comparison
from reidray.metrics.protocols import DISTRACTOR, JUNK, GroundTruth
from reidray.retrieval.array_inputs import Integers
from reidray.retrieval.distance_blocks import Floats


class SingleShotGalleries:
    """For each round one random gallery image of every person (Li et al. 2014, "DeepReID").

    Each distractor is a person of its own. The draws depend on the seed and on the gallery's order,
    not on the queries.
    """

    def __init__(self, truth: GroundTruth, rounds: int, seed: int) -> None:
        images = np.flatnonzero(truth.gallery_ids > DISTRACTOR)
        images = images[np.argsort(truth.gallery_ids[images], kind="stable")]
        persons, starts, counts = np.unique(
            truth.gallery_ids[images], return_index=True, return_counts=True
        )
        self._persons = persons
        self._chance = np.random.default_rng(seed).random((rounds, len(persons)))
        self._drawn = images[starts + (self._chance * counts).astype(np.int64)]
        others = (truth.gallery_ids <= DISTRACTOR) & (truth.gallery_ids != JUNK)
        self._distractors = np.flatnonzero(others)
        self._query_ids = truth.query_ids
        self._images = len(truth.gallery_ids)

    def ranks(self, comparison: Comparison) -> Integers:
        """(rounds,) the rank, from 0, of the query's own person in each round."""
        own = int(np.searchsorted(self._persons, self._query_ids[comparison.query]))
        matches = len(comparison.matches)
        before = comparison.before(self._images)
        drawn_match = (self._chance[:, own] * matches).astype(np.int64)
        ranks = np.empty(len(drawn_match), np.int64)
        for position in range(matches):
            rounds = drawn_match == position
            ahead = before[position][self._drawn[rounds]]
            ahead[:, own] = False
            ranks[rounds] = ahead.sum(axis=1) + before[position][self._distractors].sum()
        return ranks

    def ranks_from_positions(self, query: int, positions: Floats, truth: GroundTruth) -> Floats:
        """(rounds,) the rank, from 0, of a query's own person in each round, by a ranked list.

        Args:
            query: its index.
            positions: (G,) place of each gallery image in the list; infinite where it is not in it.
            truth: of the same labels; the query has a match.
        """
        own = int(np.searchsorted(self._persons, self._query_ids[query]))
        matches = truth.matches(query)
        own_place = positions[matches[(self._chance[:, own] * len(matches)).astype(np.int64)]]
        others = positions[self._drawn]
        others[:, own] = np.inf
        ahead = (others < own_place[:, None]).sum(axis=1)
        ahead += (positions[self._distractors] < own_place[:, None]).sum(axis=1)
        ranks: Floats = np.where(np.isinf(own_place), np.inf, ahead)
        return ranks
