"""Choose the triplets, people and images that the report of a comparison shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from reidray.comparison.comparison_data import ComparisonData
from reidray.comparison.method_evaluation import PersonRanks
from reidray.comparison.methods import Method
from reidray.metrics.protocols import GroundTruth, build_ground_truth
from reidray.retrieval import top_k

NUM_TRIPLETS = 6
WINS_PER_METHOD = 4
MAPPED_PEOPLE = 12
IMAGES_PER_MAPPED_PERSON = 20
PERPLEXITY = 20
TSNE_METRICS = {"euclidean": "euclidean", "cosine": "cosine", "l1": "manhattan"}


@dataclass(frozen=True)
class Triplet:
    """Hold a query, a gallery image of the same person and one of another person.

    Attributes:
        anchor: index into the query set.
        positive: index into the gallery, of the same person.
        negative: index into the gallery, of another person.
    """

    anchor: int
    positive: int
    negative: int


@dataclass(frozen=True)
class Win:
    """Hold a person whom one method ranks earlier than all others.

    Attributes:
        method: index of the method.
        person: the person id.
        person_index: index of the person in `PersonRanks`.
        query: index into the query set.
        match: index into the gallery.
    """

    method: int
    person: int
    person_index: int
    query: int
    match: int


def draw_triplets(data: ComparisonData, seed: int) -> list[Triplet]:
    """Draw triplets at random, each with another anchor."""
    truth = _ground_truth(data)
    query_ids, gallery_ids = data.query.person_ids, data.gallery.person_ids
    rng = np.random.default_rng(seed)
    triplets: list[Triplet] = []
    for anchor in rng.permutation(len(query_ids)).tolist():
        matches = truth.matches(anchor)
        others = np.flatnonzero((gallery_ids > 0) & (gallery_ids != query_ids[anchor]))
        if len(matches) and len(others) and len(triplets) < NUM_TRIPLETS:
            triplets.append(Triplet(anchor, int(rng.choice(matches)), int(rng.choice(others))))
    return triplets


def triplet_distances(method: Method, triplet: Triplet) -> tuple[float, float]:
    """Return the distances from the anchor to the positive and to the negative."""
    pair = method.gallery[[triplet.positive, triplet.negative]]
    distances, order = top_k(method.query[[triplet.anchor]], pair, 2, metric=method.metric)
    positive, negative = distances[0][order[0].argsort()].tolist()
    return positive, negative


def largest_wins(data: ComparisonData, ranks: PersonRanks) -> list[Win]:
    """Return the people of each method with the largest difference to the second-best method."""
    best_methods = ranks.best_methods()
    margin = np.diff(np.sort(ranks.mean_rank, axis=0)[:2], axis=0)[0]
    truth = _ground_truth(data)
    wins = []
    for method in range(len(ranks.mean_rank)):
        people = np.flatnonzero(best_methods == method)
        largest = people[np.argsort(-margin[people], kind="stable")][:WINS_PER_METHOD]
        for index in largest.tolist():
            person = int(ranks.person_ids[index])
            queries = np.flatnonzero(data.query.person_ids == person).tolist()
            query = next(each for each in queries if len(truth.matches(each)))
            wins.append(Win(method, person, index, query, int(truth.matches(query)[0])))
    return wins


def choose_mapped_images(data: ComparisonData, seed: int) -> NDArray[np.int64]:
    """Choose the images of the maps: up to 20 images each of 12 people.

    The people are drawn from the half of the people that has the most images.

    Returns:
        (P,) int64 indices into the gallery of the nearest-neighbour accuracy.
    """
    person_ids = data.sets[data.neighbour_sets.gallery].person_ids
    people, counts = np.unique(person_ids[person_ids > 0], return_counts=True)
    candidates = people[counts >= np.median(counts)]
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(candidates)[:MAPPED_PEOPLE])
    images = [np.flatnonzero(person_ids == person) for person in drawn]
    return np.concatenate([rng.permutation(each)[:IMAGES_PER_MAPPED_PERSON] for each in images])


def map_embeddings(embeddings: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.float64]:
    """Compute a map by t-SNE (van der Maaten and Hinton 2008).

    Args:
        embeddings: (P, D) float32.
        metric: the distance between embeddings.
        seed: the seed of the initial coordinates.

    Returns:
        (P, 2) float64 coordinates.
    """
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(embeddings) - 1) / 3),
        metric=TSNE_METRICS[metric],
        init="random",
        method="exact",
        random_state=seed,
    )
    return np.asarray(tsne.fit_transform(embeddings), np.float64)


def _ground_truth(data: ComparisonData) -> GroundTruth:
    """Return the matches of each query."""
    return build_ground_truth(
        data.query.person_ids,
        data.gallery.person_ids,
        data.query.camera_ids,
        data.gallery.camera_ids,
        data.protocol,
        (len(data.query.person_ids), len(data.gallery.person_ids)),
    )
