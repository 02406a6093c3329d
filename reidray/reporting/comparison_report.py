"""Render the report of a comparison of re-ID methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidray.reporting.rendering import render


@dataclass(frozen=True)
class ReportedWin:
    """Show a person whom one method ranks earlier than all other methods.

    Attributes:
        method: the name of that method.
        person: the person id.
        query: `data:` URI of a query crop.
        match: `data:` URI of a matching gallery crop.
        ranks: the mean rank of the first match, by method.
    """

    method: str
    person: int
    query: str
    match: str
    ranks: Mapping[str, float]


@dataclass(frozen=True)
class TripletDistances:
    """Hold the distances from the anchor of a triplet.

    Attributes:
        positive: distance to the image of the same person.
        negative: distance to the image of another person.
    """

    positive: float
    negative: float


@dataclass(frozen=True)
class ReportedTriplet:
    """Show a query, a gallery image of the same person and one of another person.

    Attributes:
        anchor: `data:` URI of the query crop.
        positive: `data:` URI of the crop of the same person.
        negative: `data:` URI of the crop of another person.
        distances: the distances from the anchor, by method.
    """

    anchor: str
    positive: str
    negative: str
    distances: Mapping[str, TripletDistances]


@dataclass(frozen=True)
class PersonRow:
    """Hold the metrics of one person.

    Attributes:
        person: the person id.
        queries: the number of query images.
        mean_ranks: the mean rank of the first match, one value per method.
        top1: the share of queries with a match at rank 1, one value per method.
    """

    person: int
    queries: int
    mean_ranks: Sequence[float]
    top1: Sequence[float]


@dataclass(frozen=True)
class ComparisonReport:
    """Hold the contents of the report.

    Attributes:
        data: folder or URI of the images.
        facts: descriptions of the images and models, by title.
        methods: the metrics of each method, by the name of the column in table.csv.
        protocol: the protocol of the ranking.
        neighbours: the images of the nearest-neighbour accuracy, in words.
        cmc_chart: `data:` URI of the CMC curves.
        maps_chart: `data:` URI of the t-SNE maps.
        variance_chart: `data:` URI of the cumulative explained variance.
        components: numbers of components that explain some shares of the variance, in words; one
            line for each method.
        people: the metrics of each person.
        wins: people whom one method ranks earlier than all others.
        win_counts: the number of such people, by method.
        triplets: sampled triplets.
        notes: warnings, one line each.
        config: the configuration as YAML.
    """

    data: str
    facts: Mapping[str, str]
    methods: Sequence[Mapping[str, Any]]
    protocol: str
    neighbours: str
    cmc_chart: str
    maps_chart: str
    variance_chart: str
    components: Sequence[str]
    people: Sequence[PersonRow]
    wins: Sequence[ReportedWin]
    win_counts: Mapping[str, int]
    triplets: Sequence[ReportedTriplet]
    notes: Sequence[str]
    config: str


def render_comparison_report(report: ComparisonReport) -> str:
    """Render the report as HTML."""
    names = [row["method"] for row in report.methods]
    return render("comparison.html", report=report, names=names)
