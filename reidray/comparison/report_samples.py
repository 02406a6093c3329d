"""What a page shows of a comparison beside figures: triplets, people that a method wins, maps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from reidray.comparison.comparison_data import ComparedImages
from reidray.comparison.method_evaluation import PersonRanks
from reidray.comparison.methods import Method
from reidray.metrics.protocols import GroundTruth, build_ground_truth
from reidray.retrieval import top_k

TRIPLETS = 6
WINS = 4
MAPPED_PEOPLE = 12
MAPPED_EACH = 20
PERPLEXITY = 20
TSNE_METRICS = {"euclidean": "euclidean", "cosine": "cosine", "l1": "manhattan"}


@dataclass(frozen=True)
class Triplet:
    """A query image, one of the same person and one of somebody else in the gallery.

    Attributes:
        anchor: row of the query set.
        positive: row of the gallery.
        negative: row of the gallery.
    """

    anchor: int
    positive: int
    negative: int


@dataclass(frozen=True)
class Win:
    """A person whom one method finds earlier than all others.

    Attributes:
        method: its number.
        person: who.
        place: of the person among the ranked ones.
        query: row of the query set.
        match: row of the gallery.
    """

    method: int
    person: int
    place: int
    query: int
    match: int


def draw_triplets(images: ComparedImages, seed: int) -> list[Triplet]:
    """Some triplets, each of another anchor, drawn at random."""
    query, gallery = images.sets[:2]
    truth = _truth(images)
    rng = np.random.default_rng(seed)
    found: list[Triplet] = []
    for anchor in rng.permutation(len(query.person_ids)).tolist():
        matches = truth.matches(anchor)
        others = np.flatnonzero(
            (gallery.person_ids > 0) & (gallery.person_ids != query.person_ids[anchor])
        )
        if len(matches) and len(others) and len(found) < TRIPLETS:
            found.append(Triplet(anchor, int(rng.choice(matches)), int(rng.choice(others))))
    return found


def triplet_distances(method: Method, triplet: Triplet) -> tuple[float, float]:
    """From the anchor to the positive and to the negative."""
    query, gallery = method.embeddings[:2]
    pair = gallery[[triplet.positive, triplet.negative]]
    distances, order = top_k(query[[triplet.anchor]], pair, 2, metric=method.metric)
    positive, negative = distances[0][order[0].argsort()].tolist()
    return positive, negative


def largest_wins(images: ComparedImages, ranks: PersonRanks) -> list[Win]:
    """Of each method the people whom it finds earlier than all others by the most ranks."""
    winners = ranks.winners()
    margin = np.diff(np.sort(ranks.mean_rank, axis=0)[:2], axis=0)[0]
    truth = _truth(images)
    wins = []
    for method in range(len(ranks.mean_rank)):
        places = np.flatnonzero(winners == method)
        for place in places[np.argsort(-margin[places], kind="stable")][:WINS].tolist():
            person = int(ranks.people[place])
            rows = np.flatnonzero(images.sets[0].person_ids == person).tolist()
            query = next(row for row in rows if len(truth.matches(row)))
            wins.append(Win(method, person, place, query, int(truth.matches(query)[0])))
    return wins


def people_to_map(images: ComparedImages, seed: int) -> NDArray[np.int64]:
    """(P,) rows of the last set: up to 20 images each of 12 people, drawn among those with most.

    The people are drawn among the half that has the most images.
    """
    people, counts = np.unique(images.sets[-1].person_ids, return_counts=True)
    people, counts = people[people > 0], counts[people > 0]
    many = people[counts >= np.median(counts)]
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(many)[:MAPPED_PEOPLE])
    rows = [np.flatnonzero(images.sets[-1].person_ids == person) for person in drawn]
    return np.concatenate([rng.permutation(part)[:MAPPED_EACH] for part in rows])


def map_embeddings(method: Method, rows: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton 2008) of some rows (P,) of the last set, as (P, 2)."""
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(rows) - 1) / 3),
        metric=TSNE_METRICS[method.metric],
        init="random",
        method="exact",
        random_state=seed,
    )
    return np.asarray(tsne.fit_transform(method.embeddings[-1][rows]), np.float64)


def _truth(images: ComparedImages) -> GroundTruth:
    query, gallery = images.sets[:2]
    return build_ground_truth(
        query.person_ids,
        gallery.person_ids,
        query.camera_ids,
        gallery.camera_ids,
        images.protocol,
        (len(query.person_ids), len(gallery.person_ids)),
    )
