"""Determine the matches of each query, and the images that a protocol hides from it."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reidray.retrieval.array_inputs import Integers, Labels, check_labels

ProtocolName = Literal["market1501", "all", "single_shot", "cuhk03"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
CAMERA_PROTOCOLS = ("market1501", "cuhk03")
JUNK, DISTRACTOR = -1, 0
"""Person ids of junk images, which are left out, and of distractors, which match no query."""


@dataclass(frozen=True)
class PersonPairs:
    """Hold all pairs of a query, of a range of queries, and a gallery image of its person.

    Attributes:
        rows: (N,) positions of the queries in the range, ascending.
        columns: (N,) gallery indices, ascending in each row.
        is_match: (N,) whether the image matches the query; the query does not see the others.
    """

    rows: Integers
    columns: Integers
    is_match: NDArray[np.bool_]


@dataclass(frozen=True)
class GroundTruth:
    """Hold the matches of each query and the gallery images that it does not see.

    Attributes:
        query_ids: (Q,) person of each query.
        gallery_ids: (G,) person of each gallery image.
        query_cameras: (Q,) camera of each query, or None where the protocol ignores cameras.
        gallery_cameras: (G,) camera of each gallery image, or None.
        junk: Gallery indices that no query sees.
        by_person: (G,) gallery indices in the order of their persons.
        starts: (Q,) start of the person of each query in `by_person`.
        stops: (Q,) end of that person, exclusive.
    """

    query_ids: Integers
    gallery_ids: Integers
    query_cameras: Integers | None
    gallery_cameras: Integers | None
    junk: Integers
    by_person: Integers
    starts: Integers
    stops: Integers

    def same_person(self, query: int) -> Integers:
        """Return the gallery indices of all images of the query's person, ascending."""
        return self.by_person[self.starts[query] : self.stops[query]]

    def matches(self, query: int) -> Integers:
        """Return the gallery indices of the query's matches, ascending."""
        same = self.same_person(query)
        if self.query_cameras is None or self.gallery_cameras is None:
            return same
        if self.query_ids[query] in (JUNK, DISTRACTOR):
            return same[:0]
        other_camera = self.gallery_cameras[same] != self.query_cameras[query]
        return np.asarray(same[other_camera])

    def person_pairs(self, queries: slice) -> PersonPairs:
        """Return the pairs of a range of queries with all images of their persons."""
        starts, lengths = self.starts[queries], (self.stops - self.starts)[queries]
        rows = np.repeat(np.arange(len(starts)), lengths)
        skipped = lengths.cumsum() - lengths - starts
        columns = self.by_person[np.arange(len(rows)) - skipped[rows]]
        is_match = np.ones(len(rows), np.bool_)
        if self.query_cameras is not None and self.gallery_cameras is not None:
            is_match = self.gallery_cameras[columns] != self.query_cameras[queries][rows]
            is_match &= ~np.isin(self.query_ids[queries], (JUNK, DISTRACTOR))[rows]
        return PersonPairs(rows, columns, is_match)

    def without_junk(self) -> "tuple[GroundTruth, Integers]":
        """Return the ground truth of a gallery without junk, and the indices (K,) that it keeps."""
        kept = np.delete(np.arange(len(self.gallery_ids)), self.junk)
        cameras = None
        if self.query_cameras is not None and self.gallery_cameras is not None:
            cameras = self.query_cameras, self.gallery_cameras[kept]
        return _sorted_truth(self.query_ids, self.gallery_ids[kept], cameras), kept


def default_protocol(
    query_ids: Integers,
    gallery_ids: Integers,
    query_cameras: Integers | None,
    gallery_cameras: Integers | None,
) -> ProtocolName:
    """Return the protocol for a set of images whose user names none.

    The protocol is `single_shot` if the gallery has one image of each person and no junk image.
    Otherwise it is `market1501` if every image has a camera and some query has a match by another
    camera, and `all` if not.

    >>> import numpy as np
    >>> query, gallery = np.array([1]), np.array([1, 1, 2])
    >>> default_protocol(query, gallery, np.array([1]), np.array([1, 2, 1]))
    'market1501'
    >>> default_protocol(query, gallery, np.array([1]), np.array([1, 1, 1]))
    'all'
    >>> default_protocol(query, gallery[1:], None, None)
    'single_shot'

    Args:
        query_ids: (Q,) person of each query.
        gallery_ids: (G,) person of each gallery image.
        query_cameras: (Q,) camera of each query, or None where any is unknown.
        gallery_cameras: (G,) camera of each gallery image, or None where any is unknown.
    """
    if len(np.unique(gallery_ids)) == len(gallery_ids) and JUNK not in gallery_ids:
        return "single_shot"
    if query_cameras is None or gallery_cameras is None:
        return "all"
    _, person = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)
    cameras = np.concatenate([query_cameras, gallery_cameras])
    camera_ids, camera = np.unique(cameras, return_inverse=True)
    pairs = person * len(camera_ids) + camera  # a number for each person and camera
    of_query, in_gallery = pairs[: len(query_ids)], np.unique(pairs[len(query_ids) :])
    num_cameras = np.bincount(in_gallery // len(camera_ids), minlength=len(person))
    sees_own = np.isin(of_query, in_gallery)
    across = (query_ids > DISTRACTOR) & (num_cameras[person[: len(query_ids)]] > sees_own)
    return "market1501" if across.any() else "all"


def build_ground_truth(
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels | None,
    gallery_cameras: Labels | None,
    protocol: str,
    shape: tuple[int, int],
) -> GroundTruth:
    """Check the labels of images and determine the matches of each query.

    >>> truth = build_ground_truth([5], [5, -1, 5, 7], [1], [1, 2, 2, 1], "market1501", (1, 4))
    >>> truth.matches(0).tolist(), truth.same_person(0).tolist(), truth.junk.tolist()
    ([2], [0, 2], [1])

    Args:
        query_ids: (Q,) whole numbers, the person of each query.
        gallery_ids: (G,) whole numbers, the person of each gallery image.
        query_cameras: (Q,) whole numbers, or None.
        gallery_cameras: (G,) whole numbers, or None.
        protocol: Value of `PROTOCOLS`.
        shape: Q and G.

    Raises:
        ValueError: A length is wrong, cameras that the protocol needs are missing, a person has
            several gallery images under `single_shot`, or no query has a match.
    """
    queries = check_labels("query_ids", query_ids, shape[0])
    images = check_labels("gallery_ids", gallery_ids, shape[1])
    cameras = _cameras(query_cameras, gallery_cameras, protocol, shape)
    if protocol == "single_shot":
        _check_single_shot(images)
    truth = _sorted_truth(queries, images, cameras)
    _check_some_match(truth, protocol)
    return truth


def _sorted_truth(
    query_ids: Integers, gallery_ids: Integers, cameras: tuple[Integers, Integers] | None
) -> GroundTruth:
    order = np.argsort(gallery_ids, kind="stable")
    return GroundTruth(
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=cameras[0] if cameras else None,
        gallery_cameras=cameras[1] if cameras else None,
        junk=np.flatnonzero(gallery_ids == JUNK) if cameras else order[:0],
        by_person=order,
        starts=np.searchsorted(gallery_ids[order], query_ids, side="left"),
        stops=np.searchsorted(gallery_ids[order], query_ids, side="right"),
    )


def _cameras(
    query_cameras: Labels | None,
    gallery_cameras: Labels | None,
    protocol: str,
    shape: tuple[int, int],
) -> tuple[Integers, Integers] | None:
    if protocol not in CAMERA_PROTOCOLS:
        return None
    for name, given in (("query_cameras", query_cameras), ("gallery_cameras", gallery_cameras)):
        if given is None:
            raise ValueError(
                f"`{name}` is None: protocol {protocol!r} leaves out images of the query's own "
                "camera and needs cameras; without them use the protocol 'all'"
            )
    assert query_cameras is not None
    assert gallery_cameras is not None
    return (
        check_labels("query_cameras", query_cameras, shape[0]),
        check_labels("gallery_cameras", gallery_cameras, shape[1]),
    )


def _check_single_shot(gallery_ids: Integers) -> None:
    persons, counts = np.unique(gallery_ids[gallery_ids > DISTRACTOR], return_counts=True)
    if (counts > 1).any():
        person, count = persons[counts.argmax()], counts.max()
        raise ValueError(
            f"`gallery_ids` holds person {person} {count} times: protocol 'single_shot' "
            "expects one gallery image per person; otherwise use 'all' or 'cuhk03'"
        )


def _check_some_match(truth: GroundTruth, protocol: str) -> None:
    if any(len(truth.matches(query)) for query in range(len(truth.query_ids))):
        return
    named = truth.query_ids > DISTRACTOR
    if truth.query_cameras is not None and (truth.stops > truth.starts)[named].any():
        raise ValueError(
            "`gallery_cameras` leave no query a match: every gallery image of these people comes "
            f"from the query's own camera, which protocol {protocol!r} leaves out; "
            "use the protocol 'all'"
        )
    raise ValueError("`gallery_ids` hold no person of `query_ids`: expected at least one in common")
