"""Compute the mean rating of each genre by each user."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reidray.studies.films.ratings import Ratings


@dataclass(frozen=True, eq=False)
class GenreMeans:
    """Hold the mean rating of each genre by each user.

    Attributes:
        users: (U,) int64 ids of the users with ratings, ascending.
        genres: G names, sorted.
        means: (U, G) float64 mean ratings in stars.
    """

    users: NDArray[np.int64]
    genres: tuple[str, ...]
    means: NDArray[np.float64]


def compute_genre_means(ratings: Ratings) -> GenreMeans:
    """Compute the mean rating of each genre by each user.

    A film counts in each of its genres. A genre without a rated film has the mean of the user's
    other genres; all genres of a user who rated only films without genres have the mean of the
    user's ratings.
    """
    genres_of = ratings.films["genres"].combine_chunks()
    films = ratings.films["film"].combine_chunks()
    pairs = pa.table(
        {
            "film": films.take(pc.list_parent_indices(genres_of)),
            "genre": pc.list_flatten(genres_of),
        }
    )
    # One thread adds in a fixed order, so sums are the same to the last bit.
    rated = ratings.table.join(pairs, keys="film", join_type="inner", use_threads=False)
    by_user = ratings.table.group_by("user", use_threads=False).aggregate([("rating", "mean")])
    by_user = by_user.sort_by("user")
    by_genre = rated.group_by(["user", "genre"], use_threads=False).aggregate([("rating", "mean")])
    users = by_user["user"].to_numpy()
    genres = sorted(pc.unique(by_genre["genre"]).to_pylist())
    means = np.full((len(users), len(genres)), np.nan)
    column = pc.index_in(by_genre["genre"], pa.array(genres)).to_numpy()
    row = np.searchsorted(users, by_genre["user"].to_numpy())
    means[row, column] = by_genre["rating_mean"].to_numpy()
    known = ~np.isnan(means)
    of_genres = np.where(known, means, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    of_user = np.where(known.any(axis=1), of_genres, by_user["rating_mean"].to_numpy())
    return GenreMeans(users, tuple(genres), np.where(known, means, of_user[:, None]))
