"""`evaluate` against a plain sort, and the rules of each protocol."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.metrics import evaluate, match_ranks
from reidray.metrics.protocols import default_protocol
from reidray.retrieval import distance_blocks


def by_sorting(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol):
    """Return average precisions and first ranks from a sort of the gallery of each query."""
    precisions, firsts = [], []
    for features, person, camera in zip(query, query_ids, query_cameras, strict=True):
        order = ((gallery.astype(float) - features.astype(float)) ** 2).sum(1).round(12)
        order = order.argsort(kind="stable")
        if protocol == "market1501":
            ids, cameras = gallery_ids[order], gallery_cameras[order]
            order = order[(ids != -1) & ~((ids == person) & (cameras == camera))]
        found = np.flatnonzero(gallery_ids[order] == person)
        precisions.append(
            ((np.arange(len(found)) + 1) / (found + 1)).mean() if len(found) else np.nan
        )
        firsts.append(found[0] + 1 if len(found) else 0)
    return np.array(precisions), np.array(firsts)


@st.composite
def problems(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, images, values = (draw(st.integers(1, most)) for most in (12, 120, 6))
    step = draw(st.sampled_from([1.0, 0.5, None]))
    if step is None:
        query, gallery = (random.normal(size=(n, values)) for n in (queries, images))
    else:
        query, gallery = (
            random.integers(-2, 3, size=(n, values)) * step for n in (queries, images)
        )
    people, cameras = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    problem = {
        "query": query.astype(np.float32),
        "gallery": gallery.astype(np.float32),
        "query_ids": random.integers(1, people + 1, queries),
        "gallery_ids": random.integers(-1, people + 1, images),
        "query_cameras": random.integers(0, cameras, queries),
        "gallery_cameras": random.integers(0, cameras, images),
    }
    # One query has a match for certain.
    problem["gallery_ids"][0] = problem["query_ids"][0]
    problem["gallery_cameras"][0] = problem["query_cameras"][0] + 1
    return problem


@given(problems(), st.sampled_from(["market1501", "all"]))
@settings(max_examples=60)
def test_metrics_equal_those_of_sorting(problem, protocol):
    found = evaluate(**problem, protocol=protocol)
    precisions, firsts = by_sorting(**problem, protocol=protocol)
    np.testing.assert_allclose(found.average_precision, precisions, rtol=1e-12)
    assert (found.first_match_rank == firsts).all()
    valid = firsts > 0
    assert found.num_valid_queries == valid.sum()
    assert found.mean_ap == pytest.approx(precisions[valid].mean())
    curve = [(firsts[valid] <= rank).mean() for rank in range(1, 51)]
    np.testing.assert_allclose(found.cmc, curve)


def same_metrics(one, other):
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name), equal_nan=True)
        if isinstance(getattr(one, field.name), np.ndarray)
        else getattr(one, field.name) == getattr(other, field.name)
        for field in dataclasses.fields(one)
    )


def untrained(queries=25, images=300, values=300, *, whole=False):
    """Return random features with many nearly equal distances, and duplicates."""
    random = np.random.default_rng(6)
    query, gallery = (random.normal(size=(n, values)).astype("f4") for n in (queries, images))
    if whole:
        query, gallery = query.round(), gallery.round()
    gallery[images // 2 : images // 2 + 50] = gallery[:50]
    return {
        "query": query,
        "gallery": gallery,
        "query_ids": random.integers(1, 20, queries),
        "gallery_ids": random.integers(-1, 20, images),
        "query_cameras": random.integers(0, 3, queries),
        "gallery_cameras": random.integers(0, 3, images),
    }


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "l1"])
def test_metrics_have_the_same_bits_for_any_blocks_threads_and_first_precision(
    metric, whole, monkeypatch
):
    problem = untrained(whole=whole)
    expected = evaluate(**problem, metric=metric)
    threads = torch.get_num_threads()
    try:
        for rows, columns, too_many, count in ((1, 300, 0, 1), (13, 64, 1, 2), (25, 29, 0.01, 1)):
            monkeypatch.setattr(distance_blocks, "MAX_ROWS", rows)
            monkeypatch.setattr(distance_blocks, "MAX_COLUMNS", columns)
            monkeypatch.setattr(match_ranks, "MAX_AMBIGUOUS_SHARE", too_many)
            monkeypatch.setattr(match_ranks, "MIN_AMBIGUOUS_TO_NARROW", rows)
            torch.set_num_threads(count)
            assert same_metrics(evaluate(**problem, metric=metric), expected)
    finally:
        torch.set_num_threads(threads)


def test_permuting_a_gallery_without_ties_changes_nothing():
    problem = untrained()
    problem["gallery"][150:200] += np.float32(0.01)
    expected = evaluate(**problem)
    order = np.random.default_rng(7).permutation(300)
    for side in ("gallery", "gallery_ids", "gallery_cameras"):
        problem[side] = problem[side][order]
    assert same_metrics(evaluate(**problem), expected)


LINE = {  # gallery images on a line: the distance is the position
    "query": np.zeros((1, 1), np.float32),
    "gallery": np.arange(1, 7, dtype=np.float32)[:, None],
    "query_ids": [5],
}


def test_market1501_leaves_out_junk_and_the_own_camera_and_keeps_distractors():
    found = evaluate(
        **LINE,
        gallery_ids=[5, -1, 0, 5, 7, 5],
        query_cameras=[1],
        gallery_cameras=[1, 2, 2, 2, 1, 3],
    )
    # What is left: distractor, match, other person, match.
    assert found.first_match_rank.tolist() == [2]
    assert found.mean_ap == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found.mean_inp == pytest.approx(2 / 4)


def test_all_shows_the_whole_gallery_and_needs_no_cameras():
    found = evaluate(**LINE, gallery_ids=[7, -1, 0, 5, 7, 5], protocol="all")
    assert found.first_match_rank.tolist() == [4]
    assert found.mean_ap == pytest.approx((1 / 4 + 2 / 6) / 2)


@pytest.mark.parametrize(("top_k", "hits"), [(3, 0), (4, 1 / 4), (5, 1 / 4), (6, 1 / 4 + 2 / 6)])
def test_matches_beyond_the_best_k_count_as_missed(top_k, hits):
    found = evaluate(**LINE, gallery_ids=[7, -1, 0, 5, 7, 5], protocol="all", top_k=top_k)
    assert found.mean_ap == pytest.approx(hits / 2)
    assert found.first_match_rank.tolist() == [4]
    assert found.mean_inp == pytest.approx(2 / 6)
    assert str(found).startswith(f"mAP@{top_k} {hits / 2:.4f}, mINP 0.3333")


def test_a_number_of_counted_ranks_is_at_least_one():
    with pytest.raises(ValueError, match="top_k"):
        evaluate(**LINE, gallery_ids=[7, -1, 0, 5, 7, 5], protocol="all", top_k=0)


def test_a_distractor_is_nobodys_match_under_market1501():
    both = {**LINE, "query": np.zeros((2, 1), np.float32), "query_ids": [5, 0]}
    found = evaluate(
        **both,
        gallery_ids=[0, 5, 7, 7, 7, 7],
        query_cameras=[1, 1],
        gallery_cameras=[2] * 6,
    )
    assert found.first_match_rank.tolist() == [2, 0]
    assert found.num_valid_queries == 1


def test_single_shot_curve_of_one_image_per_person():
    query = np.array([[1.1], [3.9], [2.6]], np.float32)
    found = evaluate(
        query,
        np.arange(1, 7, dtype=np.float32)[:, None],
        [1, 3, 3],
        [1, 2, 3, 4, 5, 6],
        protocol="single_shot",
        max_rank=3,
    )
    assert found.first_match_rank.tolist() == [1, 2, 1]
    assert found.cmc == pytest.approx([2 / 3, 1, 1])


def test_single_shot_refuses_two_images_of_a_person():
    with pytest.raises(ValueError, match=r"`gallery_ids` holds person 5 2 times"):
        evaluate(**LINE, gallery_ids=[1, 5, 2, 5, 3, 4], protocol="single_shot")


def test_cuhk03_curve_is_the_mean_over_galleries_of_one_image_per_person():
    arguments = {
        **LINE,
        "gallery_ids": [9, 5, 7, 7, 5, 7],
        "query_cameras": [1],
        "gallery_cameras": [2] * 6,
        "protocol": "cuhk03",
        "rounds": 20_000,
    }
    found = evaluate(**arguments)
    # Person 9 always comes first. The match at 2 (one half) is second; the match at 5 is
    # second where person 7 is drawn at 6 (one sixth of all), else third.
    assert found.cmc[:3] == pytest.approx([0, 1 / 2 + 1 / 6, 1], abs=0.015)
    assert found.mean_ap == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert same_metrics(evaluate(**arguments), found)
    assert not same_metrics(evaluate(**arguments, seed=1), found)


def test_cuhk03_agrees_with_sorting_each_drawn_gallery():
    problem = untrained(queries=15, images=200, values=3, whole=True)
    found = evaluate(**problem, protocol="cuhk03", rounds=2000)
    features, random = problem["gallery"].astype(float), np.random.default_rng(8)
    curve, used = np.zeros(50), 0
    for query, person, camera in zip(
        problem["query"], problem["query_ids"], problem["query_cameras"], strict=True
    ):
        ids, cameras = problem["gallery_ids"], problem["gallery_cameras"]
        kept = (ids != -1) & ~((ids == person) & (cameras == camera))
        if not (ids[kept] == person).any():
            continue
        used += 1
        order = ((features - query) ** 2).sum(1).argsort(kind="stable")
        ids = ids[order[kept[order]]]
        for _ in range(300):
            drawn = [random.choice(np.flatnonzero(ids == p)) for p in np.unique(ids[ids > 0])]
            drawn = np.sort(np.concatenate([drawn, np.flatnonzero(ids == 0)]))
            curve[(ids[drawn] == person).argmax() :] += 1 / 300
    assert found.cmc == pytest.approx(curve / used, abs=0.02)


def test_queries_without_a_match_are_skipped_or_count_as_zero():
    both = {**LINE, "query": np.zeros((2, 1), np.float32), "query_ids": [5, 8]}
    ids = [5, 7, 7, 7, 7, 7]
    skipped = evaluate(**both, gallery_ids=ids, protocol="all")
    counted = evaluate(**both, gallery_ids=ids, protocol="all", unmatched="zero")
    assert (skipped.mean_ap, skipped.mean_inp, skipped.cmc[0]) == (1, 1, 1)
    assert (counted.mean_ap, counted.mean_inp, counted.cmc[0]) == (0.5, 0.5, 0.5)
    assert np.isnan(skipped.average_precision[1])
    assert counted.average_precision[1] == 0
    assert skipped.num_valid_queries == counted.num_valid_queries == 1


def test_str_is_one_line_with_metrics_and_rules():
    both = {**LINE, "query": np.zeros((2, 1), np.float32), "query_ids": [5, 8]}
    line = str(
        evaluate(
            **both,
            gallery_ids=[7, 5, 7, 7, 7, 7],
            protocol="all",
            metric="cosine",
            ap_rule="trapezoid",
        )
    )
    for part in ("mAP 0.2500", "(all,", "trapezoid AP", "cosine", "1 queries used, 1 without"):
        assert part in line
    assert "\n" not in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_metrics():
    problem = untrained()
    expected = evaluate(**problem)
    for side in ("query", "gallery"):
        problem[side] = torch.from_numpy(problem[side]).cuda()
    assert same_metrics(evaluate(**problem), expected)


@given(st.integers(0, 2**32 - 1))
def test_the_default_protocol_asks_for_a_match_by_another_camera(seed):
    random = np.random.default_rng(seed)
    query, query_camera = random.integers(-1, 4, (2, 3))
    gallery, gallery_camera = random.integers(-1, 4, (2, 6))
    across = any(
        person > 0 and person == other and camera != other_camera
        for person, camera in zip(query, query_camera, strict=True)
        for other, other_camera in zip(gallery, gallery_camera, strict=True)
    )
    found = default_protocol(query, gallery, query_camera, gallery_camera)
    assert found == ("market1501" if across else "all")
