import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.attribute_schema import NO_YES, Attribute, AttributeSchema
from reidray.metrics.bootstrap import bootstrap_intervals
from reidray.metrics.subgroups import subgroup_metrics

GENDER, HAT, AGE = 0, 1, 2
SCHEMA = AttributeSchema(
    (
        Attribute("gender", ("male", "female")),
        Attribute("hat", NO_YES),
        Attribute("age", ("young", "old")),
    )
)


def queries(people, images=4):
    """Return queries of people of alternating gender, without hats, the first twelve young."""
    person_ids = np.repeat(np.arange(people), images)
    labels = np.stack(
        [person_ids % 2, np.zeros_like(person_ids), (person_ids >= 12).astype(int)], axis=1
    )
    return person_ids, labels.astype(np.int8)


def test_each_group_has_metrics_counts_and_intervals():
    people, labels = queries(40)
    precision = np.where(labels[:, GENDER] == 0, 0.8, 0.5) + 0.1 * (people % 3 - 1)
    first = np.where(people % 4 == 0, 1, 3)
    groups = {
        entry.pop("group"): entry
        for entry in subgroup_metrics(precision, first, people, labels, SCHEMA)["groups"]
    }
    assert list(groups) == ["gender male", "gender female", "age young", "age old"]
    male, female = groups["gender male"], groups["gender female"]
    assert (male["queries"], male["people"]) == (80, 20)
    assert (groups["age young"]["queries"], groups["age young"]["people"]) == (48, 12)
    of_men = labels[:, GENDER] == 0
    assert male["mean_ap"] == pytest.approx(precision[of_men].mean())
    assert (male["rank1"], female["rank1"]) == (0.5, 0.0)
    low, high = male["mean_ap_interval"]
    assert low < male["mean_ap"] < high
    assert female["mean_ap_interval"][1] < low
    assert male["rank1_interval"][0] < 0.5 < male["rank1_interval"][1]
    assert female["rank1_interval"] == [0, 0]


def test_unmatched_and_unknown_queries_are_in_no_group_and_small_groups_have_no_interval():
    people, labels = queries(24)
    labels[people == 0, GENDER] = -1
    precision = np.full(len(people), 0.5)
    precision[people == 1] = np.nan
    precision[people == 12] = np.nan
    first = np.ones(len(people), int)

    def found():
        return subgroup_metrics(precision, first, people, labels, SCHEMA)

    groups = {entry["group"]: entry for entry in found()["groups"]}
    assert [groups[f"gender {name}"]["people"] for name in ("male", "female")] == [10, 11]
    assert groups["gender male"]["mean_ap_interval"] == [0.5, 0.5]
    labels[people == 2, GENDER] = -1
    fewer = found()["groups"][0]
    assert (fewer["people"], fewer["mean_ap"], fewer["mean_ap_interval"]) == (9, 0.5, None)
    assert fewer["rank1_interval"] is None
    labels[:, AGE] = -1
    precision[labels[:, GENDER] == 0] = np.nan
    assert [entry["group"] for entry in found()["groups"]] == ["gender female"]
    labels[:, GENDER] = -1
    assert found() == {}


def test_bootstrap_intervals_contain_the_true_mean_in_about_95_percent():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        people = np.repeat(np.arange(60), random.integers(1, 9, 60))
        values = (random.normal(size=60)[people] + random.normal(size=len(people)))[:, None]
        low, high = bootstrap_intervals(values, people)[0]
        held += low <= 0 <= high
    assert 0.9 <= held / 200 <= 0.98


def test_copies_of_a_persons_images_do_not_narrow_the_interval():
    random = np.random.default_rng(2)
    each = random.random((30, 1))
    (low, high), *_ = bootstrap_intervals(each, np.arange(30))
    (thrice_low, thrice_high), *_ = bootstrap_intervals(
        np.repeat(each, 3, axis=0), np.arange(90) // 3
    )
    assert (thrice_low, thrice_high) == pytest.approx((low, high))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 3))
def test_an_interval_lies_within_the_values_and_depends_on_the_seed_alone(values, seed):
    column = np.array(values)[:, None]
    people = np.arange(len(values)) // 2
    ((low, high),) = bootstrap_intervals(column, people, seed=seed)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert bootstrap_intervals(column, people + 7, seed=seed).tolist() == [[low, high]]


def test_an_interval_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_intervals(np.empty((0, 2)), [])
