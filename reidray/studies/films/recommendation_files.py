"""Write the files of the recommendation job: lists, clusters and report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidray.config.films import RecommendConfig
from reidray.reporting.charts.encoding import png_data_uri
from reidray.reporting.rendering import render
from reidray.storage.csv_files import write_csv
from reidray.studies.films.cluster_charts import (
    bic_chart,
    centres_chart,
    genres_chart,
    map_chart,
    votes_chart,
)
from reidray.studies.films.cluster_members import profile_of, sample_members
from reidray.studies.films.film_lists import UserList
from reidray.studies.films.gaussian_mixtures import Choice, Clusters, StateFits
from reidray.studies.films.genre_means import GenreMeans
from reidray.studies.films.ratings import Ratings
from reidray.studies.films.recommend_checks import CLUSTERS_FILE, LISTS_FILE, REPORT_FILE
from reidray.studies.films.user_map import map_users

DIGITS = 6
COLUMNS = ("user", "cluster", "rank", "film", "title", "genres", "liked_by", "mean_rating", "note")


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Hold the results of the recommendation job.

    Attributes:
        ratings: the ratings and films.
        means: the mean rating of each genre by each user.
        fits: the fits of each random state.
        choice: the chosen mixture.
        clusters: the clusters of the users.
        lists: a list for each user with ratings and for each requested user, sorted by user.
        notes: notes on the ratings and the clusters, one line each.
    """

    ratings: Ratings
    means: GenreMeans
    fits: Sequence[StateFits]
    choice: Choice
    clusters: Clusters
    lists: Sequence[UserList]
    notes: tuple[str, ...]

    def lists_of(self, users: Sequence[int]) -> list[UserList]:
        """Return the lists of some users, in the order of the users."""
        by_user = {entry.user: entry for entry in self.lists}
        return [by_user[user] for user in users]


def summarize(result: Recommendation) -> dict[str, Any]:
    """Return the clusters as values of JSON."""
    return {
        "clusters": result.choice.clusters,
        "bic": round(result.clusters.bic, DIGITS),
        "sizes": result.clusters.sizes.tolist(),
        "random_state": result.choice.random_state,
        "votes": result.choice.votes,
        "ratings": result.ratings.table.num_rows,
        "rating_users": len(result.means.users),
        "notes": list(result.notes),
    }


def list_to_dict(entry: UserList) -> dict[str, Any]:
    """Return the list of a user as values of JSON."""
    return {
        "user": entry.user,
        "cluster": entry.cluster,
        "probabilities": [round(share, DIGITS) for share in entry.probabilities],
        "films": [
            {
                **film._asdict(),
                "genres": list(film.genres),
                "mean_rating": round(film.mean_rating, DIGITS),
            }
            for film in entry.films
        ],
        "note": entry.note,
    }


def write_files(folder: Path, config: RecommendConfig, result: Recommendation) -> None:
    """Write `recommendations.csv`, `clusters.json` and `report.html` into an empty folder."""
    (folder / LISTS_FILE).write_bytes(list_table(result.lists))
    record = summarize(result) | {
        "genres": list(result.means.genres),
        "centres": result.clusters.centres.round(DIGITS).tolist(),
        "cluster_counts": list(config.sweep.cluster_counts),
        "sweep": [
            {
                "random_state": state.random_state,
                "bic": state.bic.round(DIGITS).tolist(),
                "converged": state.converged.tolist(),
            }
            for state in result.fits
        ],
    }
    (folder / CLUSTERS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / REPORT_FILE).write_text(render_report(config, result), encoding="utf-8")


def list_table(lists: Sequence[UserList]) -> bytes:
    """Return the lists as CSV in UTF-8, with a row for each film."""
    rows = (
        (
            *(entry.user, entry.cluster, rank, film.film, film.title, "|".join(film.genres)),
            *(film.liked_by, round(film.mean_rating, DIGITS), entry.note),
        )
        for entry in lists
        for rank, film in enumerate(entry.films, start=1)
    )
    return write_csv(COLUMNS, rows)


def render_report(config: RecommendConfig, result: Recommendation) -> str:
    """Render the report as one HTML file that needs no other file."""
    counts = config.sweep.cluster_counts
    user_map = map_users(result.means.means, config.seed)
    requested = result.lists_of(config.users)
    return render(
        "recommendation.html",
        config=config,
        result=result,
        counts=counts,
        mapped=len(user_map.indices),
        lists=requested,
        profiles=[profile_of(each, result.means, result.ratings) for each in requested],
        samples=sample_members(result.clusters, result.means, result.ratings),
        sizes=result.clusters.sizes.tolist(),
        centres=result.clusters.centres.T.tolist(),
        bic_chart=png_data_uri(bic_chart(result.fits, counts, result.choice)),
        votes_chart=png_data_uri(votes_chart(result.choice, counts)),
        genres_chart=png_data_uri(genres_chart(result.ratings.count_genres())),
        map_chart=png_data_uri(map_chart(user_map, result.clusters.labels)),
        centres_chart=png_data_uri(centres_chart(result.clusters, result.means.genres)),
    )
