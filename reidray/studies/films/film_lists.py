"""List the films to recommend to each user."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.studies.films.gaussian_mixtures import Clusters
from reidray.studies.films.genre_means import GenreMeans
from reidray.studies.films.ratings import Ratings

LIKED_ABOVE = 4.0
NO_RATINGS = "no ratings: the most popular films"
NOTHING_NEW = "nothing new is rated above 4 in the cluster: the most popular films"


class Film(NamedTuple):
    """Hold a film of a list.

    Attributes:
        film: the id of the film.
        title: the title in the movies file.
        genres: the genres in the movies file.
        liked_by: number of users in the group who rated the film above 4.
        mean_rating: mean of all ratings by the group, in stars.
    """

    film: int
    title: str
    genres: tuple[str, ...]
    liked_by: int
    mean_rating: float


@dataclass(frozen=True)
class UserList:
    """Hold the recommendations for a user.

    Attributes:
        user: the id of the user.
        cluster: the most likely cluster, from 1; None for a user without ratings.
        probabilities: the probability of each cluster; empty for a user without ratings.
        films: the films, the best first; fewer than `top_k` where users like no more films.
        note: the reason why the list is not that of the cluster; empty where it is.
    """

    user: int
    cluster: int | None
    probabilities: tuple[float, ...]
    films: tuple[Film, ...]
    note: str = ""


def favourite_films(ratings: Ratings, groups: NDArray[np.int64]) -> dict[int, list[Film]]:
    """Return the films that users of each group rated above 4, by group.

    The films are sorted by the number of these users, then by the mean rating in the group, then
    by id.

    Args:
        ratings: the N ratings.
        groups: (N,) int64, the group of the user of each rating.
    """
    table = ratings.table.append_column("group", pa.array(groups)).append_column(
        "liked", pc.greater(ratings.table["rating"], LIKED_ABOVE).cast(pa.int64())
    )
    # One thread adds in a fixed order, so sums are the same to the last bit.
    ranked = (
        table.group_by(["group", "film"], use_threads=False)
        .aggregate([("liked", "sum"), ("rating", "mean")])
        .filter(pc.field("liked_sum") > 0)
        .sort_by(
            [("liked_sum", "descending"), ("rating_mean", "descending"), ("film", "ascending")]
        )
    )
    known = {row["film"]: row for row in ratings.films.to_pylist()}
    found: dict[int, list[Film]] = {}
    for row in ranked.to_pylist():
        film = known[row["film"]]
        genres = tuple(film["genres"])
        found.setdefault(row["group"], []).append(
            Film(row["film"], film["title"], genres, row["liked_sum"], row["rating_mean"])
        )
    return found


def recommend_to_all(
    ratings: Ratings, means: GenreMeans, clusters: Clusters, new_users: Sequence[int], top_k: int
) -> list[UserList]:
    """Return a list for each user with ratings, and for users without ratings.

    The list of a user has the films that most other users of the cluster rated above 4, without
    the films that the user rated. Users without ratings, and users without such films, get the
    films that most of all users rated above 4.

    Args:
        ratings: the ratings of all users.
        means: the mean ratings, which name the users of the clusters.
        clusters: the clusters of these users.
        new_users: the ids of users without ratings.
        top_k: largest number of films in a list.

    Returns:
        The lists, sorted by user.
    """
    user_indices = np.searchsorted(means.users, ratings.table["user"].to_numpy())
    labels = clusters.labels
    liked = favourite_films(ratings, labels[user_indices])
    popular = favourite_films(ratings, np.zeros(len(user_indices), np.int64)).get(0, [])
    lists = [UserList(user, None, (), tuple(popular[:top_k]), NO_RATINGS) for user in new_users]
    for index, seen in enumerate(_rated_films(ratings, user_indices, len(means.users))):
        # The user rated none of these films, so all who like them are other users.
        films = _first_unseen(liked.get(int(labels[index]), []), seen, top_k)
        lists.append(
            UserList(
                user=int(means.users[index]),
                cluster=int(labels[index]) + 1,
                probabilities=tuple(clusters.probabilities[index].tolist()),
                films=films or _first_unseen(popular, seen, top_k),
                note="" if films else NOTHING_NEW,
            )
        )
    return sorted(lists, key=lambda entry: entry.user)


def _rated_films(
    ratings: Ratings, user_indices: NDArray[np.int64], users: int
) -> Iterator[set[int]]:
    """Yield the ids of the films that each user rated."""
    order = np.argsort(user_indices, kind="stable")
    films = ratings.table["film"].to_numpy()[order]
    ends = np.cumsum(np.bincount(user_indices, minlength=users))
    for films_of_user in np.split(films, ends[:-1]):
        yield set(films_of_user.tolist())


def _first_unseen(films: Sequence[Film], seen: set[int], top_k: int) -> tuple[Film, ...]:
    return tuple(islice((film for film in films if film.film not in seen), top_k))
