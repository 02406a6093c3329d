"""Find the people whom a method confuses, and the images that look mislabelled.

All are computed from the predictions of the k nearest neighbours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.comparison.comparison_data import ComparisonData
from reidray.comparison.method_evaluation import MethodMetrics
from reidray.comparison.methods import Method
from reidray.retrieval import top_k

MAX_CELLS = 200
"""Rows and columns of a confusion matrix, at most; of more people, neighbours share a row."""

PAIRS_PER_METHOD = 3
SUSPECTS = 8
SUSPECT_NEIGHBOURS = 10


@dataclass(frozen=True)
class ConfusedPair:
    """Hold a person whose images a method takes for another person.

    Attributes:
        person: the person id.
        other: the id of the predicted person.
        images: the number of these images.
        total: the number of classified images of the person.
        query: index of the first of these images in the classified set.
        match: index of the person's nearest image among the neighbours; None where there is none.
        confused: index of the predicted person's nearest image among the neighbours.
    """

    person: int
    other: int
    images: int
    total: int
    query: int
    match: int | None
    confused: int


@dataclass(frozen=True)
class SuspectImage:
    """Hold an image that looks like another person.

    Attributes:
        person: the person id of its label.
        other: the id of the person whom the methods predict.
        methods: the number of methods that predict this person.
        query: index of the image in the classified set.
        match: index of an image of the labelled person among the neighbours.
        confused: index of an image of the predicted person among the neighbours.
    """

    person: int
    other: int
    methods: int
    query: int
    match: int
    confused: int


def confusion_cells(
    person_ids: NDArray[np.int64], predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the shares of the images of each person (row) that are taken for each (column).

    People are in the order of their ids. Of more than 200, neighbours share a row and a column, so
    that the memory does not grow with the number of people.

    Args:
        person_ids: (N,) int64, the person in each image.
        predicted: (N,) int64, the predicted person.

    Returns:
        (C, C) float64, a row without images is 0.

    >>> confusion_cells(np.array([4, 4, 9]), np.array([4, 9, 9])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    people = np.unique(np.concatenate([person_ids, predicted]))
    cells = min(len(people), MAX_CELLS)
    rows, columns = (
        np.searchsorted(people, ids) * cells // len(people) for ids in (person_ids, predicted)
    )
    counts = np.bincount(rows * cells + columns, minlength=cells * cells).reshape(cells, cells)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.float64)


def most_confused(metrics: MethodMetrics, data: ComparisonData, k: int) -> list[ConfusedPair]:
    """Return the pairs of people that a method confuses most often, at most three."""
    query_ids = data.sets[data.neighbour_sets.query].person_ids
    predicted = metrics.predicted[k]
    wrong = np.flatnonzero(predicted != query_ids)
    found = Counter(zip(query_ids[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    pairs = []
    for (person, other), images in found.most_common(PAIRS_PER_METHOD):
        query = int(wrong[(query_ids[wrong] == person) & (predicted[wrong] == other)][0])
        confused = _nearest_image(metrics.method, data, query, other)
        assert confused is not None  # the prediction of its neighbours
        pairs.append(
            ConfusedPair(
                person=person,
                other=other,
                images=images,
                total=int((query_ids == person).sum()),
                query=query,
                match=_nearest_image(metrics.method, data, query, person),
                confused=confused,
            )
        )
    return pairs


def person_accuracy(
    metrics: MethodMetrics, data: ComparisonData, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the people (P,) ascending and the share of the images of each that is right, (P,)."""
    query_ids = data.sets[data.neighbour_sets.query].person_ids
    people, person, counts = np.unique(query_ids, return_inverse=True, return_counts=True)
    right = np.bincount(person, weights=metrics.predicted[k] == query_ids, minlength=len(people))
    return people, right / counts


def find_suspects(metrics: Sequence[MethodMetrics], data: ComparisonData) -> list[SuspectImage]:
    """Return images that look mislabelled, the most suspect first, at most eight.

    By the 10 nearest neighbours, half of the methods or more, and at least two, predict the same
    other person in such an image, and fewer predict its own. A method predicts the person rightly
    in half of the person's other images or more.
    """
    query_ids = data.sets[data.neighbour_sets.query].person_ids
    predicted = np.stack([each.predicted[SUSPECT_NEIGHBOURS] for each in metrics])
    is_right = predicted == query_ids
    candidates = []
    for query in np.flatnonzero(~is_right.all(axis=0)).tolist():
        wrong = predicted[~is_right[:, query], query]
        other, votes = Counter(wrong.tolist()).most_common(1)[0]
        if votes < max(2, len(metrics) / 2) or votes <= is_right[:, query].sum():
            continue
        others = np.flatnonzero(query_ids == query_ids[query])
        others = others[others != query]
        shares = is_right[:, others].mean(axis=1) if len(others) else np.zeros(len(metrics))
        if shares.max() >= 0.5:
            candidates.append((-votes, -shares.max(), query, other, int(shares.argmax())))
    suspects: list[SuspectImage] = []
    for votes, _, query, other, judge in sorted(candidates):
        if len(suspects) == SUSPECTS:
            break
        person = int(query_ids[query])
        match = _nearest_image(metrics[judge].method, data, query, person)
        confused = _nearest_image(metrics[judge].method, data, query, other)
        if match is not None and confused is not None:
            suspects.append(SuspectImage(person, other, -votes, query, match, confused))
    return suspects


def _nearest_image(method: Method, data: ComparisonData, query: int, person: int) -> int | None:
    """Return the index of the person's image that is nearest to a classified image."""
    sets = data.neighbour_sets
    images = np.flatnonzero(data.sets[sets.gallery].person_ids == person)
    if not len(images):
        return None
    queries, gallery = method.embeddings[sets.query], method.embeddings[sets.gallery]
    _, nearest = top_k(queries[[query]], gallery[images], 1, metric=method.metric)
    return int(images[nearest[0, 0]])
