"""What a recommendation leaves: `recommendations.csv`, `clusters.json` and `report.html`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidray.config.films import RecommendConfig
from reidray.reporting.charts.encoding import png_data_uri
from reidray.reporting.rendering import render
from reidray.storage.csv_files import write_csv
from reidray.studies.films.cluster_charts import bic_chart, centres_chart, map_chart
from reidray.studies.films.favourites import UserList
from reidray.studies.films.genres import GenreMeans
from reidray.studies.films.mixtures import Choice, Clusters, StateFits
from reidray.studies.films.ratings import Ratings
from reidray.studies.films.user_map import map_users

LISTS_FILE = "recommendations.csv"
CLUSTERS_FILE = "clusters.json"
PAGE_FILE = "report.html"
DIGITS = 6
COLUMNS = ("user", "cluster", "rank", "film", "title", "liked_by", "mean_rating", "note")


@dataclass(frozen=True, eq=False)
class Recommendation:
    """All that was found.

    Attributes:
        ratings: what it is about.
        means: each user's mean of each genre.
        fits: the sweep, one entry for each random state.
        choice: what the sweep speaks for.
        clusters: of the users.
        lists: one for each user, and for those asked for who have no ratings; sorted by user.
        notes: what the reader should know, one line each.
    """

    ratings: Ratings
    means: GenreMeans
    fits: Sequence[StateFits]
    choice: Choice
    clusters: Clusters
    lists: Sequence[UserList]
    notes: tuple[str, ...]

    def lists_of(self, users: Sequence[int]) -> list[UserList]:
        """The lists of these users, in this order."""
        by_user = {entry.user: entry for entry in self.lists}
        return [by_user[user] for user in users]


def summarise(found: Recommendation) -> dict[str, Any]:
    """The clusters in figures, for a JSON file."""
    return {
        "clusters": found.choice.clusters,
        "bic": round(found.clusters.bic, DIGITS),
        "sizes": found.clusters.sizes.tolist(),
        "random_state": found.choice.random_state,
        "votes": found.choice.votes,
        "ratings": found.ratings.table.num_rows,
        "rating_users": len(found.means.users),
        "notes": list(found.notes),
    }


def describe_list(entry: UserList) -> dict[str, Any]:
    """A user's list, for a JSON file."""
    return {
        "user": entry.user,
        "cluster": entry.cluster,
        "probabilities": [round(share, DIGITS) for share in entry.probabilities],
        "films": [
            {**film._asdict(), "mean_rating": round(film.mean_rating, DIGITS)}
            for film in entry.films
        ],
        "note": entry.note,
    }


def write_files(folder: Path, config: RecommendConfig, found: Recommendation) -> None:
    """Write the three files into an empty folder."""
    (folder / LISTS_FILE).write_bytes(list_table(found.lists))
    record = summarise(found) | {
        "genres": list(found.means.genres),
        "centres": found.clusters.centres.round(DIGITS).tolist(),
        "cluster_counts": list(config.sweep.cluster_counts),
        "sweep": [
            {
                "random_state": state.random_state,
                "bic": state.bic.round(DIGITS).tolist(),
                "converged": state.converged.tolist(),
            }
            for state in found.fits
        ],
    }
    (folder / CLUSTERS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / PAGE_FILE).write_text(make_page(config, found), encoding="utf-8")


def list_table(lists: Sequence[UserList]) -> bytes:
    """All lists as CSV in UTF-8, a row for each film."""
    rows = (
        (
            *(entry.user, entry.cluster, rank, film.film, film.title),
            *(film.liked_by, round(film.mean_rating, DIGITS), entry.note),
        )
        for entry in lists
        for rank, film in enumerate(entry.films, start=1)
    )
    return write_csv(COLUMNS, rows)


def make_page(config: RecommendConfig, found: Recommendation) -> str:
    """The page: one HTML file that needs nothing else."""
    counts = config.sweep.cluster_counts
    user_map = map_users(found.means.means, config.seed)
    return render(
        "recommendation.html",
        config=config,
        found=found,
        counts=counts,
        mapped=len(user_map.rows),
        lists=found.lists_of(config.users),
        sizes=found.clusters.sizes.tolist(),
        centres=found.clusters.centres.T.tolist(),
        bic_chart=png_data_uri(bic_chart(found.fits, counts, found.choice)),
        map_chart=png_data_uri(map_chart(user_map, found.clusters.labels)),
        centres_chart=png_data_uri(centres_chart(found.clusters, found.means.genres)),
    )
