"""How good a ranking is for people of each gender and age, so that a bias is seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import AttributeSchema
from reidray.metrics.bootstrap import LEVEL, RESAMPLES, bootstrap_intervals

GROUPED_BY = ("gender", "age")
FEWEST_PEOPLE = 10
"""Of fewer, a bootstrap says nothing."""

INTERVALS = (
    f"{LEVEL:.0%} intervals of the means: {RESAMPLES:,} draws of as many people from each group's "
    f"own (bootstrap, seed 0); none for fewer than {FEWEST_PEOPLE} people"
)


def subgroup_metrics(
    average_precision: NDArray[np.floating],
    first_match_rank: NDArray[np.integer[Any]],
    people: NDArray[np.integer[Any]],
    codes: NDArray[np.integer[Any]],
    schema: AttributeSchema,
) -> dict[str, Any]:
    """The mAP and Rank-1 of the queries of each gender and age, with how sure they are.

    Args:
        average_precision: (Q,) floats, NaN for a query that does not count.
        first_match_rank: (Q,) integers, 1 is the best; 0 where no match is ranked.
        people: (Q,) integers, who is on the query.
        codes: (Q, A) attribute codes of the queries, -1 where unknown.
        schema: the A attributes; all but gender and age are passed over.

    Returns:
        `groups`, one for each that has a query which counts: `group`, `queries`, `people`,
        `mean_ap`, `mean_ap_interval`, `rank1` and `rank1_interval`, an interval being its two ends
        or None; and `group_intervals`, a line that says how these are made. Nothing where there is
        no group.
    """
    counts = ~np.isnan(average_precision)
    found = []
    for index, attribute in enumerate(schema.attributes):
        if attribute.name not in GROUPED_BY:
            continue
        for code, value in enumerate(attribute.values):
            members = counts & (codes[:, index] == code)
            if members.any():
                values = np.stack(
                    [average_precision[members], first_match_rank[members] == 1], axis=1
                )
                group = {"group": f"{attribute.name} {value}"}
                found.append(group | _figures(values, people[members]))
    return {"groups": found, "group_intervals": INTERVALS} if found else {}


def _figures(values: NDArray[np.floating], people: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """Figures of queries (N, 2), average precision and whether the first image is right."""
    mean_ap, rank1 = values.mean(axis=0).tolist()
    photographed = len(np.unique(people))
    intervals: list[Any] = [None, None]
    if photographed >= FEWEST_PEOPLE:
        intervals = bootstrap_intervals(values, people).tolist()
    return {
        "queries": len(values),
        "people": photographed,
        "mean_ap": mean_ap,
        "mean_ap_interval": intervals[0],
        "rank1": rank1,
        "rank1_interval": intervals[1],
    }
