"""Choose the queries and the gallery among the images of the validation people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.metrics.protocols import CAMERA_PROTOCOLS, ProtocolName, default_protocol

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class RankingPlan:
    """The queries and the gallery of a validation; a mask runs over its N images.

    Attributes:
        queries: (N,) bool.
        gallery: (N,) bool; an image may be both.
        protocol: the one asked for, or that of `default_protocol` for these images.
        judged: how many queries have a match in the gallery.
        unmatched: indices of the queries that have none.
    """

    queries: NDArray[np.bool_]
    gallery: NDArray[np.bool_]
    protocol: ProtocolName
    judged: int
    unmatched: Labels


def plan_ranking(
    people: Labels, cameras: Labels, protocol: ProtocolName | None = None
) -> RankingPlan:
    """Choose the queries and the gallery among labelled images.

    The first image of each person in each camera is a query, and the others are gallery. That
    leaves some people without a match for one of their queries, because all their images in other
    cameras are queries too: their only images in a camera then serve as gallery as well. The
    protocol `market1501` hides an image from the query that it is itself.

    Where everybody is seen by one camera, or some image's camera is not known, cameras do not
    count, and a person's only image is gallery and not a query.

    Args:
        people: (N,) int64, who each image shows.
        cameras: (N,) int64, -1 where unknown.
        protocol: `market1501`, `cuhk03` or `all`; the last makes nothing of cameras.
    """
    known = bool((cameras >= 0).all()) and protocol != "all"
    seen = cameras if known else np.zeros_like(cameras)
    pairs, first, images = np.unique(
        np.stack([people, seen]), axis=1, return_index=True, return_counts=True
    )
    _, person = np.unique(pairs[0], return_inverse=True)
    seen_by = np.bincount(person)[person]
    only = images == 1
    queries = np.zeros(len(people), dtype=np.bool_)
    queries[first] = True
    gallery = ~queries
    unmatched = first[seen_by == 1]
    if seen_by.max(initial=0) > 1 or protocol in CAMERA_PROTOCOLS:
        with_others = np.bincount(person, weights=~only)[person]
        gallery[first[only & (with_others < 2)]] = True
    else:
        queries[first[only]] = False
        gallery[first[only]] = True
        unmatched = unmatched[:0]
    protocol = protocol or default_protocol(
        people[queries],
        people[gallery],
        seen[queries] if known else None,
        seen[gallery] if known else None,
    )
    return RankingPlan(queries, gallery, protocol, int(queries.sum()) - len(unmatched), unmatched)
