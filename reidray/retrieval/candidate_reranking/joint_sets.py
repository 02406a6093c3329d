"""Choose the images among which the candidates of each query are re-ranked.

`rerank` finds neighbourhoods among all queries and the whole gallery, its joint set. Here each
query has a joint set of its own, a ball around it: its N nearest gallery images, and the other
queries that are no farther than the last of these, N at most. So a joint set depends neither on the
block that a query is in nor on the number of workers, and it is small. It becomes the joint set of
`rerank` where N covers the gallery and the other queries.
"""

from dataclasses import dataclass

import numpy as np

from reidray.retrieval.array_inputs import Integers, check_count
from reidray.retrieval.neighbours import Neighbours


@dataclass(frozen=True, eq=False)
class JointSets:
    """Hold the joint sets of B queries, and the features that they need.

    Attributes:
        queries: (V,) int64 positions of the queries in any set, ascending; the B queries included.
        gallery: (U,) int64 positions of the gallery images in any set, ascending.
        members: (M,) int64 images of the sets, one set after the other: row r < V stands for
            `queries[r]`, and row V + r for `gallery[r]`. Ascending in each set.
        starts: (B + 1,) int64, where the members of each set begin and where the last ends.
        own: (B,) int64, where the query of each set is among the members.
    """

    queries: Integers
    gallery: Integers
    members: Integers
    starts: Integers
    own: Integers

    def __len__(self) -> int:
        """Return the number of sets, B."""
        return len(self.own)

    @property
    def sizes(self) -> Integers:
        """Return the number of images (B,) int64 of each set."""
        return np.diff(self.starts)


def joint_sets(
    positions: Integers,
    candidates: Neighbours,
    other_queries: Neighbours,
    count: int,
    gallery_size: int,
) -> JointSets:
    """Return the joint sets of B queries.

    >>> candidates = Neighbours(np.array([[1.0, 4.0]]), np.array([[70, 20]]))
    >>> other_queries = Neighbours(np.array([[0.0, 3.0, 5.0]]), np.array([[8, 6, 7]]))
    >>> sets = joint_sets(np.array([8]), candidates, other_queries, count=2, gallery_size=90)
    >>> sets.queries.tolist(), sets.gallery.tolist()  # 7 is farther than 20
    ([6, 8], [20, 70])

    Args:
        positions: (B,) int64, the position of each query among all queries.
        candidates: The `count` nearest gallery images of each query, fewer where the gallery is
            smaller.
        other_queries: The `count` + 1 nearest queries of each query among all queries by the same
            metric, itself included; fewer where there are fewer.
        count: Number of gallery images to re-rank for each query, N.
        gallery_size: Number of images in the whole gallery.

    Raises:
        ValueError: `count` is no whole number of at least 1, or a query has no candidate.
    """
    check_count("count", count)
    nearest, keys = candidates.indices[:, :count], candidates.keys[:, :count]
    is_candidate = nearest >= 0
    if not is_candidate.any(axis=1).all():
        raise ValueError("`candidates` has a query without an image: expected at least one each")
    # A ball that holds the whole gallery has no bound, as nothing lies beyond it.
    radius = keys[:, -1] if count < gallery_size else np.full(len(keys), np.inf)
    found = other_queries.indices
    is_other = (found >= 0) & (found != positions[:, None])
    is_other &= (other_queries.keys <= radius[:, None]) & (is_other.cumsum(axis=1) <= count)

    set_of_other, column = is_other.nonzero()
    others = found[set_of_other, column]
    set_of_candidate, column = is_candidate.nonzero()
    images = nearest[set_of_candidate, column]
    queries = np.unique(np.concatenate([positions, others]))
    gallery = np.unique(images)
    own = np.searchsorted(queries, positions)
    rows = np.concatenate(
        [
            own,
            np.searchsorted(queries, others),
            len(queries) + np.searchsorted(gallery, images),
        ]
    )
    sets = np.concatenate([np.arange(len(positions)), set_of_other, set_of_candidate])
    order = np.lexsort((rows, sets))
    sizes = np.bincount(sets, minlength=len(positions))
    return JointSets(
        queries,
        gallery,
        rows[order],
        np.concatenate([np.zeros(1, np.int64), sizes.cumsum()]),
        np.argsort(order)[: len(positions)],
    )
