"""The page of a comparison: one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reidray.reporting.rendering import render


@dataclass(frozen=True)
class ShownWin:
    """A person whom one method finds earlier than all others.

    Attributes:
        method: which.
        person: who.
        query: `data:` address of a query's crop.
        match: of the right answer's.
        ranks: mean rank of the first match, by method.
    """

    method: str
    person: int
    query: str
    match: str
    ranks: dict[str, float]


@dataclass(frozen=True)
class ShownTriplet:
    """A query, an image of the same person, one of somebody else, and their distances.

    Attributes:
        anchor: `data:` address of the query's crop.
        positive: of the same person's.
        negative: of somebody else's.
        distances: by method, to the positive and to the negative.
    """

    anchor: str
    positive: str
    negative: str
    distances: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class PersonRow:
    """How each method finds one person.

    Attributes:
        person: who.
        queries: images that ask about them.
        mean_ranks: of the first match, one for each method.
        found_first: share of the queries with a match at rank 1, one for each method.
    """

    person: int
    queries: int
    mean_ranks: tuple[float, ...]
    found_first: tuple[float, ...]


@dataclass(frozen=True)
class ComparisonPage:
    """What the page shows.

    Attributes:
        data: folder or URI of the images.
        facts: of the images compared, by name.
        figures: of each method, by name, as in table.csv.
        protocol: rules of the ranking.
        naming: which images the nearest-neighbour accuracy is of.
        curves: `data:` address of the CMC of all methods.
        maps: of the t-SNE maps.
        variance: of the cumulative explained variance.
        components: components that reach each marked share of the variance, in words.
        people: each person's ranks.
        wins: people that one method finds earlier than all others.
        won: how many there are of these, by method.
        triplets: samples.
        notes: what a reader must know, one line each.
        config: the whole configuration as YAML.
    """

    data: str
    facts: dict[str, str]
    figures: Sequence[dict[str, Any]]
    protocol: str
    naming: str
    curves: str
    maps: str
    variance: str
    components: str
    people: Sequence[PersonRow]
    wins: Sequence[ShownWin]
    won: dict[str, int]
    triplets: Sequence[ShownTriplet]
    notes: Sequence[str]
    config: str


def comparison_page(page: ComparisonPage) -> str:
    """The page as HTML."""
    return render("comparison.html", page=page, methods=[row["method"] for row in page.figures])
