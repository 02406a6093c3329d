"""Choice of the queries and the gallery: every query that can have a match has one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.labels import make_labels

from reidray.training.tasks.reid.validation import evaluate_embeddings
from reidray.training.tasks.reid.validation_queries import plan_ranking


def columns(images):
    people, cameras = (np.array(column) for column in zip(*images, strict=True))
    return people, cameras


def with_a_match(people, cameras, plan):
    """Return for each query whether the gallery has a match under the protocol."""
    return [
        any(
            plan.gallery[other]
            and other != query
            and people[other] == people[query]
            and (plan.protocol != "market1501" or cameras[other] != cameras[query])
            for other in range(len(people))
        )
        for query in np.flatnonzero(plan.queries)
    ]


labelled = st.lists(st.tuples(st.integers(1, 5), st.integers(-1, 3)), min_size=1, max_size=30)


@given(labelled)
def test_every_query_that_can_have_a_match_has_one_and_every_image_is_used(images):
    people, cameras = columns(images)
    plan = plan_ranking(make_labels(people, cameras))
    cameras_of = {person: set(cameras[people == person]) for person in people}
    several = min(cameras) >= 0 and any(len(found) > 1 for found in cameras_of.values())
    several_images = np.unique(people[plan.gallery], return_counts=True)[1].max() > 1
    expected = "market1501" if several else "all" if several_images else "single_shot"
    assert plan.protocol == expected
    possible = [
        len(cameras_of[person]) > 1 if several else (people == person).sum() > 1
        for person in people[plan.queries]
    ]
    assert with_a_match(people, cameras, plan) == possible
    assert plan.num_valid_queries == sum(possible)
    unmatched = np.flatnonzero(plan.queries)[~np.array(possible, bool)]
    assert sorted(plan.unmatched) == unmatched.tolist()
    assert (plan.queries | plan.gallery).all()


@given(labelled)
def test_people_with_several_images_in_each_camera_have_their_first_as_query(images):
    people, cameras = columns([image for image in images for _ in range(2)])
    plan = plan_ranking(make_labels(people, cameras))
    assert not (plan.queries & plan.gallery).any()
    pairs = np.stack([people, cameras if min(cameras) >= 0 else 0 * cameras])
    _, first = np.unique(pairs, axis=1, return_index=True)
    assert np.flatnonzero(plan.queries).tolist() == sorted(first)


def test_no_query_joins_the_gallery_without_need():
    """A person's only image in a camera stays out while each query has another match."""
    people, cameras = columns([(1, 1), (1, 2), (1, 2), (1, 3), (1, 3), (2, 1), (2, 1), (2, 2)])
    plan = plan_ranking(make_labels(people, cameras))
    assert np.flatnonzero(plan.queries & plan.gallery).tolist() == [7]


@pytest.mark.parametrize(
    ("cameras", "used"), [([1, 2] * 6, 12), (list(range(12)), 12), ([-1] * 12, 6), ([3] * 12, 6)]
)
def test_metrics_count_all_queries_of_people_with_one_image_in_each_camera(cameras, used):
    people = np.repeat(np.arange(1, 7), 2)
    truth = make_labels(people, cameras)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 8))[people])
    none = np.zeros((12, 0), np.int64)
    metrics = evaluate_embeddings(
        features.float(), none, truth, majority=np.zeros(0, np.int64), metric="cosine"
    )
    assert f"{used} queries used, 0 without a match" in metrics["protocol"]
    assert metrics["mean_ap"] == 1


@given(labelled, st.sampled_from([None, "all", "market1501"]), st.integers(1, 40))
def test_random_queries_have_a_match_among_all_images(images, protocol, number):
    people, cameras = columns(images)
    if protocol == "market1501":
        cameras = np.maximum(cameras, 0)
    truth = make_labels(people, cameras)
    plan = plan_ranking(truth, protocol, number)
    everyone = plan_ranking(truth, protocol, len(images))
    assert plan.gallery.all()
    assert all(with_a_match(people, cameras, plan))
    assert plan.num_valid_queries == plan.queries.sum() == min(number, everyone.queries.sum())
    assert not (plan.queries & ~everyone.queries).any()
    others = replace(everyone, queries=~everyone.queries)
    assert not any(with_a_match(people, cameras, others))
    assert np.array_equal(plan.queries, plan_ranking(truth, protocol, number).queries)


def test_a_random_query_sees_every_image_but_itself_and_the_first_names_count():
    """Images lie on a line, so that the ranks of the matches can be counted by hand."""
    people = np.array([1, 2, 1, 2, 2])
    truth = make_labels(people, np.array([1, 1, 1, 1, 2]))
    line = torch.tensor([[0.0], [1.0], [4.0], [6.0], [10.0]])
    none = np.zeros((5, 0), np.int64)

    def metrics(**options):
        majority = np.zeros(0, np.int64)
        return evaluate_embeddings(
            line, none, truth, majority=majority, metric="euclidean", protocol="all", **options
        )

    ranks = [[2], [3, 4], [3], [2, 3], [1, 3]]
    precisions = [np.mean([(i + 1) / r for i, r in enumerate(each)]) for each in ranks]
    found = metrics(num_queries=5)
    assert found["mean_ap"] == pytest.approx(np.mean(precisions))
    assert "(all, standard AP, euclidean distance, 5 queries used, 0 without" in found["protocol"]
    first_two = [1 / 2, 0, 0, 1 / 4, 1 / 2]
    assert metrics(num_queries=5, top_k=2)["mean_ap"] == pytest.approx(np.mean(first_two))
    assert "3 queries used" in metrics(num_queries=3)["protocol"]


@pytest.mark.parametrize(("protocol", "queries"), [("all", 3), ("market1501", 6), ("cuhk03", 6)])
def test_the_configured_protocol_plans_and_evaluates_the_validation(protocol, queries):
    people = np.repeat(np.arange(1, 4), 4)
    truth = make_labels(people, np.tile([1, 1, 2, 2], 3))
    plan = plan_ranking(truth, protocol)
    assert (plan.protocol, plan.num_valid_queries) == (protocol, queries)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 8))).float()
    none = np.zeros((12, 0), np.int64)
    metrics = evaluate_embeddings(
        features, none, truth, majority=np.zeros(0, np.int64), metric="cosine", protocol=protocol
    )
    assert f"({protocol}, " in metrics["protocol"]
    assert f"{queries} queries used" in metrics["protocol"]
