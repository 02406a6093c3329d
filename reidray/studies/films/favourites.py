"""Which films to recommend to whom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.studies.films.genres import GenreMeans
from reidray.studies.films.mixtures import Clusters
from reidray.studies.films.ratings import Ratings

LIKED_ABOVE = 4.0
NO_RATINGS = "no ratings: the most popular films"
NOTHING_NEW = "nothing new is rated above 4 in the cluster: the most popular films"


class Film(NamedTuple):
    """A film in a list.

    Attributes:
        film: its id.
        title: as the movies file has it.
        liked_by: users of the group who rated it above 4.
        mean_rating: of all ratings by the group, in stars.
    """

    film: int
    title: str
    liked_by: int
    mean_rating: float


@dataclass(frozen=True)
class UserList:
    """What is recommended to a user.

    Attributes:
        user: the id.
        cluster: the most likely one, counted from 1; None for a user without ratings.
        probabilities: of each cluster; empty for a user without ratings.
        films: the best first; fewer than asked for where no more are liked.
        note: why the list is not the cluster's; empty where it is.
    """

    user: int
    cluster: int | None
    probabilities: tuple[float, ...]
    films: tuple[Film, ...]
    note: str = ""


def favourites(ratings: Ratings, groups: NDArray[np.int64]) -> dict[int, list[Film]]:
    """The films that users of each group rated above 4.

    The film that most of them did comes first, of several such the one with the higher mean rating
    in the group, then the one with the lower id.

    Args:
        ratings: N of them.
        groups: (N,) int64, the group of each rating's user.
    """
    table = ratings.table.append_column("group", pa.array(groups)).append_column(
        "liked", pc.greater(ratings.table["rating"], LIKED_ABOVE).cast(pa.int64())
    )
    # One thread, so that sums are made in one order and come out the same to the last bit.
    ranked = (
        table.group_by(["group", "film"], use_threads=False)
        .aggregate([("liked", "sum"), ("rating", "mean")])
        .filter(pc.field("liked_sum") > 0)
        .sort_by(
            [("liked_sum", "descending"), ("rating_mean", "descending"), ("film", "ascending")]
        )
    )
    titles = dict(
        zip(ratings.films["film"].to_pylist(), ratings.films["title"].to_pylist(), strict=True)
    )
    found: dict[int, list[Film]] = {}
    for row in ranked.to_pylist():
        film = Film(row["film"], titles[row["film"]], row["liked_sum"], row["rating_mean"])
        found.setdefault(row["group"], []).append(film)
    return found


def recommend_to_all(
    ratings: Ratings, means: GenreMeans, clusters: Clusters, strangers: Sequence[int], top_k: int
) -> list[UserList]:
    """A list for every user with ratings, and for strangers.

    A user gets what most others of the user's cluster rated above 4, less what the user rated. A
    stranger, and a user to whom that leaves nothing, gets what most users of all rated above 4.

    Args:
        ratings: of all users.
        means: whose users the clusters are of.
        clusters: of these users.
        strangers: ids of users without ratings.
        top_k: films in a list, at most.

    Returns:
        The lists, sorted by user.
    """
    rows = np.searchsorted(means.users, ratings.table["user"].to_numpy())
    labels = clusters.labels
    liked = favourites(ratings, labels[rows])
    popular = favourites(ratings, np.zeros(len(rows), np.int64)).get(0, [])
    lists = [UserList(user, None, (), tuple(popular[:top_k]), NO_RATINGS) for user in strangers]
    for row, seen in enumerate(_films_of_each(ratings, rows, len(means.users))):
        # None of these films has a rating of the user's: whoever liked it is one of the others.
        films = _first_unseen(liked.get(int(labels[row]), []), seen, top_k)
        lists.append(
            UserList(
                user=int(means.users[row]),
                cluster=int(labels[row]) + 1,
                probabilities=tuple(clusters.probabilities[row].tolist()),
                films=films or _first_unseen(popular, seen, top_k),
                note="" if films else NOTHING_NEW,
            )
        )
    return sorted(lists, key=lambda entry: entry.user)


def _films_of_each(ratings: Ratings, rows: NDArray[np.int64], users: int) -> Iterator[set[int]]:
    """The films that each user rated."""
    order = np.argsort(rows, kind="stable")
    films = ratings.table["film"].to_numpy()[order]
    ends = np.cumsum(np.bincount(rows, minlength=users))
    for films_of_one in np.split(films, ends[:-1]):
        yield set(films_of_one.tolist())


def _first_unseen(films: Sequence[Film], seen: set[int], top_k: int) -> tuple[Film, ...]:
    return tuple(islice((film for film in films if film.film not in seen), top_k))
