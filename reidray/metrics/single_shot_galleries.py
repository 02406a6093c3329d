"""Draw galleries of one random image per person, as the CUHK03 protocol ranks them."""

import numpy as np

from reidray.metrics.match_ranks import Floats, MatchRanks
from reidray.metrics.protocols import DISTRACTOR, JUNK, GroundTruth
from reidray.retrieval.array_inputs import Integers


class SingleShotGalleries:
    """Draw one random gallery image of every person in each round (Li et al. 2014, "DeepReID").

    Each distractor counts as a person of its own. The draws depend on the seed and on the order of
    the gallery, not on the queries.

    Args:
        truth: Labels of the images.
        rounds: Number of galleries.
        seed: Seed of the draws.
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

    def ranks(self, ranks: MatchRanks) -> Integers:
        """Return the rank (rounds,), from 0, of the person of a query in each gallery."""
        own = int(np.searchsorted(self._persons, self._query_ids[ranks.query]))
        matches = len(ranks.matches)
        before = ranks.is_before(self._images)
        drawn_match = (self._chance[:, own] * matches).astype(np.int64)
        found = np.empty(len(drawn_match), np.int64)
        for position in range(matches):
            rounds = drawn_match == position
            ahead = before[position][self._drawn[rounds]]
            ahead[:, own] = False
            found[rounds] = ahead.sum(axis=1) + before[position][self._distractors].sum()
        return found

    def ranks_from_positions(self, query: int, positions: Floats, truth: GroundTruth) -> Floats:
        """Return the rank of the person of a query in each gallery, from a ranked list.

        Args:
            query: Index of the query, which has a match.
            positions: (G,) position of each gallery image in the list, infinite where the list does
                not name it.
            truth: Labels of the images.

        Returns:
            (rounds,) float64 ranks from 0; infinite where the drawn match is not in the list.
        """
        own = int(np.searchsorted(self._persons, self._query_ids[query]))
        matches = truth.matches(query)
        drawn_match = matches[(self._chance[:, own] * len(matches)).astype(np.int64)]
        own_position = positions[drawn_match]
        others = positions[self._drawn]
        others[:, own] = np.inf
        ahead = (others < own_position[:, None]).sum(axis=1)
        ahead += (positions[self._distractors] < own_position[:, None]).sum(axis=1)
        ranks: Floats = np.where(np.isinf(own_position), np.inf, ahead)
        return ranks
