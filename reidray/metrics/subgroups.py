"""Compute ranking metrics for people of each gender and age, to reveal a bias."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import AttributeSchema
from reidray.metrics.bootstrap import LEVEL, RESAMPLES, bootstrap_intervals

GROUPED_BY = ("gender", "age")
MIN_PEOPLE = 10
"""Smallest number of people for which a bootstrap interval is given."""

INTERVALS = (
    f"{LEVEL:.0%} intervals of the means: {RESAMPLES:,} draws of as many people from each group's "
    f"own (bootstrap, seed 0); none for fewer than {MIN_PEOPLE} people"
)


def subgroup_metrics(
    average_precision: NDArray[np.floating],
    first_match_rank: NDArray[np.integer[Any]],
    person_ids: NDArray[np.integer[Any]],
    attribute_labels: NDArray[np.integer[Any]],
    schema: AttributeSchema,
) -> dict[str, Any]:
    """Compute mAP and Rank-1 of the queries of each gender and age, with confidence intervals.

    mAP is the mean average precision of the queries of the group, and Rank-1 the share of them
    whose best gallery image is a match; the whole gallery is ranked. Queries without a match and
    queries of unknown gender or age are in no group. The intervals are those of
    `bootstrap_intervals`, for groups of at least `MIN_PEOPLE` people.

    >>> from reidray.data.attribute_schema import Attribute
    >>> schema = AttributeSchema((Attribute("gender", ("male", "female")),))
    >>> gender = np.array([[0], [0], [1]])
    >>> precision, rank = np.array([1.0, 0.5, 0.2]), np.array([1, 2, 5])
    >>> found = subgroup_metrics(precision, rank, np.array([1, 2, 3]), gender, schema)
    >>> [(group["group"], group["mean_ap"], group["rank1"]) for group in found["groups"]]
    [('gender male', 0.75, 0.5), ('gender female', 0.2, 0.0)]

    Args:
        average_precision: (Q,) floats, NaN for a query without a match.
        first_match_rank: (Q,) integers, 1 is the best; 0 where no match is ranked.
        person_ids: (Q,) integers, the person of each query.
        attribute_labels: (Q, A) labels of the queries, -1 where unknown.
        schema: The A attributes; only gender and age are used.

    Returns:
        `groups`, a list with an entry for each group that has a query: `group`, `queries`,
        `people`, `mean_ap`, `mean_ap_interval`, `rank1` and `rank1_interval`, an interval being its
        two ends or None; and `group_intervals`, a line that describes the intervals. Empty where
        there is no group.
    """
    has_match = ~np.isnan(average_precision)
    groups = []
    for index, attribute in enumerate(schema.attributes):
        if attribute.name not in GROUPED_BY:
            continue
        for label, value in enumerate(attribute.values):
            members = has_match & (attribute_labels[:, index] == label)
            if members.any():
                values = np.stack(
                    [average_precision[members], first_match_rank[members] == 1], axis=1
                )
                group = {"group": f"{attribute.name} {value}"}
                groups.append(group | _group_metrics(values, person_ids[members]))
    return {"groups": groups, "group_intervals": INTERVALS} if groups else {}


def _group_metrics(
    values: NDArray[np.floating], person_ids: NDArray[np.integer[Any]]
) -> dict[str, Any]:
    """Return the metrics of a group from average precision and Rank-1 of its queries (N, 2)."""
    mean_ap, rank1 = values.mean(axis=0).tolist()
    people = len(np.unique(person_ids))
    intervals: list[Any] = [None, None]
    if people >= MIN_PEOPLE:
        intervals = bootstrap_intervals(values, person_ids).tolist()
    return {
        "queries": len(values),
        "people": people,
        "mean_ap": mean_ap,
        "mean_ap_interval": intervals[0],
        "rank1": rank1,
        "rank1_interval": intervals[1],
    }
