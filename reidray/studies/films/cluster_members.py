"""Describe users by the ratings that they gave, for the report."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from reidray.studies.films.film_lists import UserList
from reidray.studies.films.gaussian_mixtures import Clusters
from reidray.studies.films.genre_means import GenreMeans
from reidray.studies.films.ratings import Ratings

SAMPLE = 5
"""Users of a cluster that the report shows."""


@dataclass(frozen=True)
class Profile:
    """Hold what the ratings of a user tell.

    Attributes:
        user: the id of the user.
        ratings: number of films that the user rated.
        mean_rating: mean of these ratings, in stars; None for a user without ratings.
        genres: mean rating of each genre that the user rated, the best first.
        probability: probability of the user's cluster; None for a user without ratings.
    """

    user: int
    ratings: int
    mean_rating: float | None
    genres: tuple[tuple[str, float], ...]
    probability: float | None


def profile_of(entry: UserList, means: GenreMeans, ratings: Ratings) -> Profile:
    """Return the profile of the user of a list."""
    if entry.cluster is None:
        return Profile(entry.user, 0, None, (), None)
    probability = entry.probabilities[entry.cluster - 1]
    return _profile(entry.user, probability, means, ratings)


def sample_members(
    clusters: Clusters, means: GenreMeans, ratings: Ratings
) -> list[tuple[Profile, ...]]:
    """Return the profiles of the users who are most likely in each cluster, by cluster."""
    labels, samples = clusters.labels, []
    for cluster, probabilities in enumerate(clusters.probabilities.T):
        members = np.flatnonzero(labels == cluster)
        chosen = members[np.argsort(-probabilities[members], kind="stable")][:SAMPLE]
        samples.append(
            tuple(
                _profile(int(means.users[each]), float(probabilities[each]), means, ratings)
                for each in chosen
            )
        )
    return samples


def _profile(user: int, probability: float, means: GenreMeans, ratings: Ratings) -> Profile:
    """Return the profile of a user with ratings."""
    own = ratings.table.filter(pc.equal(ratings.table["user"], user))
    films = ratings.films.filter(pc.is_in(ratings.films["film"], value_set=own["film"]))
    rated = set(pc.list_flatten(films["genres"]).to_pylist())
    row = means.means[int(np.searchsorted(means.users, user))].tolist()
    genres = [(name, mean) for name, mean in zip(means.genres, row, strict=True) if name in rated]
    genres.sort(key=lambda genre: -genre[1])
    return Profile(user, own.num_rows, pc.mean(own["rating"]).as_py(), tuple(genres), probability)
