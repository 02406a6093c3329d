"""Open-set evaluation: thresholds, rates, and rankings that use them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.metrics import evaluate_open_set
from reidray.retrieval import top_k


def people(seed=0, queries=40, images=200, values=8, whole=False):
    random = np.random.default_rng(seed)
    draw = random.integers if whole else random.normal
    features = [draw(0, 3, size=(n, values)).astype(np.float32) for n in (queries, images)]
    ids = [random.integers(-1, 12, n) for n in (queries, images)]
    cameras = [random.integers(0, 3, n) for n in (queries, images)]
    return *features, *ids, *cameras


def pair_distances(problem, metric="euclidean"):
    """Return matrices of genuine and impostor distances under market1501, NaN elsewhere."""
    query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = problem
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
        distances = 1 - query @ gallery.T
    else:
        distances = np.sqrt(((query[:, None] - gallery[None]) ** 2).sum(axis=2))
    same = query_ids[:, None] == gallery_ids
    elsewhere = query_cameras[:, None] != gallery_cameras
    named = (query_ids > 0)[:, None]
    genuine = np.where(same & elsewhere & named, distances, np.nan)
    impostor = np.where(~same & (gallery_ids != -1), distances, np.nan)
    return genuine, impostor


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("whole", [False, True])
def test_pair_distances_equal_those_of_the_whole_matrix(metric, whole):
    problem = people(whole=whole)
    genuine, impostor = pair_distances(problem, metric)
    found = evaluate_open_set(*problem, unit="pair", metric=metric, max_rate=1)
    np.testing.assert_allclose(found.genuine, np.sort(genuine[~np.isnan(genuine)]), atol=1e-9)
    np.testing.assert_allclose(found.impostor, np.sort(impostor[~np.isnan(impostor)]), atol=1e-9)
    assert found.num_impostors == len(found.impostor)


def test_only_the_impostors_up_to_the_highest_rate_are_kept():
    problem = people(queries=600, images=3000)  # so many pairs that the least are picked out twice
    whole = evaluate_open_set(*problem, unit="pair", max_rate=1)
    part = evaluate_open_set(*problem, unit="pair", max_rate=0.1, memory_mb=16)
    np.testing.assert_array_equal(part.impostor, whole.impostor[: len(part.impostor)])
    assert part.num_impostors == whole.num_impostors
    assert len(part.impostor) == int(0.1 * whole.num_impostors) + 1
    for rate in (0, 0.001, 0.05, 0.1):
        assert part.at(rate) == whole.at(rate)
    with pytest.raises(ValueError, match="max_rate"):
        part.at(0.2)


@pytest.mark.parametrize("whole", [False, True])
def test_query_distances_are_those_to_the_nearest_match_and_impostor(whole):
    problem = people(whole=whole)
    genuine, impostor = pair_distances(problem)
    has_match = ~np.isnan(genuine).all(axis=1)
    found = evaluate_open_set(*problem)
    expected = np.sort(np.nanmin(genuine[has_match], axis=1))
    np.testing.assert_allclose(found.genuine, expected, atol=1e-9)
    np.testing.assert_allclose(found.impostor, np.sort(np.nanmin(impostor, axis=1)), atol=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 1000), st.booleans(), st.sampled_from(["query", "pair"]), st.floats(0, 1))
def test_a_threshold_is_the_highest_within_the_false_accept_rate(seed, whole, unit, rate):
    problem = people(seed, queries=20, images=60, values=3, whole=whole)
    found = evaluate_open_set(*problem, unit=unit, max_rate=1)
    point = found.at(rate)
    accepted = (found.impostor <= point.threshold).mean()
    assert accepted == point.false_accept_rate
    assert accepted <= rate + 1e-9
    assert (found.genuine <= point.threshold).mean() == point.true_accept_rate
    beyond = found.impostor[found.impostor > point.threshold]
    if len(beyond):
        assert (found.impostor <= beyond[0]).mean() > rate - 1e-9


@settings(max_examples=25)
@given(st.integers(0, 1000), st.booleans(), st.sampled_from(["query", "pair"]))
def test_the_order_of_the_gallery_and_the_memory_change_nothing(seed, whole, unit):
    query, gallery, query_ids, gallery_ids, query_cameras, cameras = people(seed, whole=whole)
    order = np.random.default_rng(seed).permutation(len(gallery))
    first = evaluate_open_set(
        query, gallery, query_ids, gallery_ids, query_cameras, cameras, unit=unit
    )
    second = evaluate_open_set(
        query,
        gallery[order],
        query_ids,
        gallery_ids[order],
        query_cameras,
        cameras[order],
        unit=unit,
        memory_mb=1,
    )
    np.testing.assert_array_equal(first.genuine, second.genuine)
    np.testing.assert_array_equal(first.impostor, second.impostor)


def test_the_roc_curve_rises_to_one():
    false, true = evaluate_open_set(*people(), unit="pair", max_rate=1).roc()
    assert (np.diff(false) > 0).all()
    assert (np.diff(true) >= 0).all()
    assert false[0] == 0
    assert (false[-1], true[-1]) == (1, 1)


def test_a_query_whose_person_is_unknown_is_a_stranger():
    query = np.array([[0.0], [10.0]], np.float32)
    gallery = np.array([[1.0], [14.0]], np.float32)
    found = evaluate_open_set(query, gallery, [1, 7], [1, 2], protocol="all")
    assert found.genuine.tolist() == [1.0]
    assert found.impostor.tolist() == [4.0, 14.0]
    point = found.at(0)
    assert point.true_accept_rate == 1.0
    assert 3.99 < point.threshold < 4.0


def test_top_k_within_the_threshold_accepts_the_stated_share_of_strangers():
    query, gallery, query_ids, gallery_ids, *_ = people(3)
    point = evaluate_open_set(query, gallery, query_ids, gallery_ids, protocol="all").at(0.25)
    strangers = 0
    for row, person in zip(query, query_ids, strict=True):
        others = gallery[gallery_ids != person]
        _, named = top_k(row[None], others, 1, max_distance=point.threshold)
        strangers += int(named[0, 0] >= 0)
    assert strangers / len(query) == point.false_accept_rate


def test_top_k_drops_images_beyond_max_distance():
    query, gallery, *_ = people()
    distances, indices = top_k(query, gallery, 20)
    limit = float(np.median(distances))
    near, named = top_k(query, gallery, 20, max_distance=limit)
    within = distances <= limit
    assert within.any()
    assert not within.all()
    np.testing.assert_array_equal(named, np.where(within, indices, -1))
    np.testing.assert_array_equal(near, np.where(within, distances, np.inf))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "image"}, "`unit` is 'image': expected one of query, pair"),
        ({"max_rate": 2}, "`max_rate` is 2: expected 0 to 1"),
        ({"max_rate": float("nan")}, "`max_rate` is nan: expected 0 to 1"),
        ({"metric": "dot"}, "`metric` is 'dot'"),
        ({"protocol": "viper"}, "`protocol` is 'viper'"),
        ({"memory_mb": 0}, "`memory_mb` is 0"),
    ],
)
def test_evaluate_open_set_names_the_invalid_argument(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_open_set(*people(), **options)


def test_a_rate_beyond_the_memory_is_refused_with_the_highest_possible_rate():
    problem = people(queries=60, images=2000)
    with pytest.raises(ValueError, match=r"expected at most 0\.1\d? with `memory_mb=1`"):
        evaluate_open_set(*problem, unit="pair", max_rate=1, memory_mb=1)


def test_a_gallery_without_impostors_is_refused():
    one = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="`gallery_ids` hold nobody but"):
        evaluate_open_set(one, one, [1], [1], protocol="all")


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_of_0_and_1_is_refused(rate):
    with pytest.raises(ValueError, match="`false_accept_rate` is"):
        evaluate_open_set(*people()).at(rate)


def test_a_nan_max_distance_is_refused():
    query, gallery, *_ = people()
    with pytest.raises(ValueError, match="`max_distance` is nan"):
        top_k(query, gallery, 3, max_distance=float("nan"))
