"""Re-ranking of the N best against re-ranking of the whole gallery."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import GOLDEN

from reidray.retrieval import DISTANCE_METRICS, Reranking, rerank, top_k
from reidray.retrieval.candidate_reranking import joint_sets, rerank_candidates
from reidray.retrieval.partitioned_search import PartitionedSearch


def nearest(query, images, k, metric):
    search = PartitionedSearch(query, k, metric, memory_mb=64)
    return search.update(search.empty(), images, 0)


def rerank_best(query, gallery, count, k, *, block=None, metric="euclidean", **options):
    """Re-rank as a nightly run does: by blocks of queries, each with the features that it needs."""
    found = []
    for top in range(0, len(query), block or len(query)):
        positions = np.arange(top, min(top + (block or len(query)), len(query)))
        sets = joint_sets(
            positions,
            nearest(query[positions], gallery, count, metric),
            nearest(query[positions], query, count + 1, metric),
            count,
            len(gallery),
        )
        features = query[sets.queries], gallery[sets.gallery]
        found.append(rerank_candidates(sets, *features, k, metric=metric, **options))
    distances, positions = zip(*found, strict=True)
    return np.concatenate(distances), np.concatenate(positions)


def people(seed, persons=8, images=6, size=16):
    """Return features near the centre of their person."""
    random = np.random.default_rng(seed)
    centres = np.repeat(random.normal(size=(persons, size)), images, axis=0)
    features = (centres + 0.8 * random.normal(size=centres.shape)).astype(np.float32)
    return features[::images], np.delete(features, np.s_[::images], axis=0)


rerankings = st.builds(
    lambda k1, k2, weight: Reranking(k1, min(k1, k2), weight),
    st.integers(1, 12),
    st.integers(1, 6),
    st.floats(0, 1),
)
metrics = st.sampled_from(sorted(DISTANCE_METRICS))


@given(st.integers(0, 1000), rerankings, st.sampled_from(["euclidean", "l1"]), st.integers(1, 30))
@settings(max_examples=40)
def test_candidates_that_cover_whole_numbers_have_the_bits_of_the_exact_function(
    seed, chosen, metric, k
):
    random = np.random.default_rng(seed)
    query, gallery = (
        random.integers(-3, 4, size=(n, 4)).astype(np.float32) for n in random.integers(8, 30, 2)
    )
    count = max(len(query), len(gallery)) + int(random.integers(0, 3))
    found = rerank_best(query, gallery, count, k, metric=metric, settings=chosen)
    options = {"k1": chosen.k1, "k2": chosen.k2, "lambda_value": chosen.lambda_value}
    expected = rerank(query, gallery, k, metric=metric, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 1000), rerankings, metrics)
@settings(max_examples=40)
def test_candidates_that_cover_the_gallery_give_the_distances_of_the_exact_function(
    seed, chosen, metric
):
    query, gallery = people(seed)
    everything = len(gallery)
    found = rerank_best(query, gallery, everything, everything, metric=metric, settings=chosen)
    options = {"k1": chosen.k1, "k2": chosen.k2, "lambda_value": chosen.lambda_value}
    expected = rerank(query, gallery, everything, metric=metric, **options)
    by_position = [np.take_along_axis(d, p.argsort(axis=1), axis=1) for d, p in (found, expected)]
    np.testing.assert_allclose(*by_position, atol=1e-6)


@given(st.integers(0, 1000), rerankings, metrics, st.integers(1, 45), st.integers(1, 9))
@settings(max_examples=15)
def test_the_result_has_the_same_bits_for_any_block_of_queries(seed, chosen, metric, count, block):
    query, gallery = people(seed, persons=12, images=4)
    options = {"metric": metric, "settings": chosen}
    whole = rerank_best(query, gallery, count, 10, **options)
    parts = rerank_best(query, gallery, count, 10, block=block, memory_mb=1, **options)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.sort(whole[1], axis=1) >= 0).all()
    assert whole[1].shape == (12, min(count, 10))


def test_duplicates_keep_the_order_of_the_gallery():
    query, gallery = people(1)
    gallery = np.repeat(gallery, 3, axis=0)
    _, positions = rerank_best(query, gallery, 30, 30, settings=Reranking(9, 3))
    for row in positions:
        for copies in np.split(row, np.flatnonzero(np.diff(row // 3)) + 1):
            assert (np.diff(copies) > 0).all()


def test_images_beyond_max_distance_only_take_part_in_neighbourhoods():
    query, gallery = people(2)
    chosen = Reranking(8, 3)
    distances, positions = rerank_best(query, gallery, 20, 20, settings=chosen)
    kept = rerank_best(query, gallery, 20, 20, settings=chosen, max_distance=4.5)
    near = top_k(query, gallery, 20, max_distance=4.5)[1]
    assert 0 < (near == -1).mean() < 1
    for row, allowed in enumerate(near):
        chosen = np.isin(positions[row], allowed[allowed >= 0])
        count = chosen.sum()
        np.testing.assert_array_equal(kept[1][row, :count], positions[row, chosen])
        np.testing.assert_array_equal(kept[0][row, :count], distances[row, chosen])
        assert (kept[1][row, count:] == -1).all()
        assert np.isinf(kept[0][row, count:]).all()


@pytest.mark.parametrize(("queries", "images"), [(1, 1), (1, 5), (5, 1), (3, 4)])
def test_a_gallery_smaller_than_a_neighbourhood_is_ranked(queries, images):
    random = np.random.default_rng(3)
    query, gallery = (random.normal(size=(n, 3)).astype(np.float32) for n in (queries, images))
    distances, positions = rerank_best(query, gallery, 100, 50, settings=Reranking())
    assert (np.sort(positions, axis=1) == np.arange(images)).all()
    assert (np.diff(distances, axis=1) >= 0).all()


def test_other_queries_farther_than_the_last_candidate_are_left_out():
    query = np.array([[0.0], [1.0], [-2.0], [50.0]], np.float32)
    gallery = np.array([[0.5], [2.0], [90.0]], np.float32)
    found = nearest(query, gallery, 2, "euclidean"), nearest(query, query, 3, "euclidean")
    sets = joint_sets(np.arange(4), *found, 2, len(gallery))
    rows = np.split(sets.members, sets.starts[1:-1])
    assert [sets.queries[row[row < 4]].tolist() for row in rows] == [
        [0, 1, 2],
        [0, 1],
        [0, 1, 2],
        [3],
    ]
    assert sets.gallery[rows[0][rows[0] >= 4] - 4].tolist() == [0, 1]
    assert (sets.queries[sets.members[sets.own]] == np.arange(4)).all()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"k": 0}, "`k` is 0"),
        ({"metric": "hamming"}, "`metric` is 'hamming'"),
        ({"memory_mb": 0}, "`memory_mb` is 0"),
        ({"gallery_features": np.ones((3, 16))}, "`gallery_features` has 3 rows: expected those"),
    ],
)
def test_an_invalid_argument_is_named(wrong, complaint):
    query, gallery = people(4)
    found = nearest(query, gallery, 9, "l1"), nearest(query, query, 10, "l1")
    sets = joint_sets(np.arange(len(query)), *found, 9, len(gallery))
    arguments = {
        "query_features": query[sets.queries],
        "gallery_features": gallery[sets.gallery],
        "k": 5,
        "settings": Reranking(5, 2),
    }
    with pytest.raises(ValueError, match=complaint):
        rerank_candidates(sets, **(arguments | wrong))


def average_precision(order, person, camera, gallery_ids, gallery_cameras):
    """Return the AP of one ranking of a whole gallery by the protocol of Market-1501."""
    ids, cameras = gallery_ids[order], gallery_cameras[order]
    hits = (ids == person)[(ids != -1) & ~((ids == person) & (cameras == camera))]
    ranks = np.flatnonzero(hits) + 1
    return (np.arange(1, len(ranks) + 1) / ranks).mean() if len(ranks) else np.nan


@pytest.mark.slow
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden features are not beside the checkout")
def test_the_hundred_best_of_real_people_rank_almost_as_by_the_whole_gallery():
    stored = np.load(GOLDEN / "osnet_market.npz")
    query, gallery = (stored[side].astype(np.float32) for side in ("query", "gallery"))
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    plain = top_k(query, gallery, len(gallery))[1]
    whole = rerank(query, gallery, len(gallery))[1]
    best = rerank_best(query, gallery, 100, 100, settings=Reranking())[1]
    whole = [row[np.isin(row, first)] for row, first in zip(whole, plain[:, :100], strict=True)]

    def mean_ap(first):
        truth = [stored[f"query_{name}"] for name in ("ids", "cameras")]
        labels = stored["gallery_ids"].astype(int), stored["gallery_cameras"]
        orders = (
            np.concatenate([one, every[~np.isin(every, one)]])
            for one, every in zip(first, plain, strict=True)
        )
        rows = zip(orders, *truth, strict=True)
        return np.nanmean([average_precision(*row, *labels) for row in rows])

    found = mean_ap(best)
    assert found > mean_ap(plain) + 0.08
    assert found > mean_ap(whole) - 0.015
