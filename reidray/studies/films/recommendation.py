"""The recommendation job: ratings in, clusters of users and lists of films out."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from reidray.config.films import RecommendConfig
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.studies.films.favourites import UserList, recommend_to_all
from reidray.studies.films.genres import GenreMeans, genre_means
from reidray.studies.films.mixtures import Choice, Clusters, StateFits, choose, cluster_users
from reidray.studies.films.random_states import sweep_random_states
from reidray.studies.films.ratings import read_ratings
from reidray.studies.films.recommendation_files import (
    Recommendation,
    describe_list,
    summarise,
    write_files,
)

log = logging.getLogger("reidray")


def recommend_films(
    config: RecommendConfig, session: AbstractContextManager[None]
) -> dict[str, Any]:
    """Cluster users by what they think of genres, and recommend films to them.

    Args:
        config: whom to recommend films to, and from what.
        session: a connection to Ray, opened once the files have been read.

    Returns:
        The clusters in figures and the lists of the users asked for, with the output folder.

    Raises:
        UserError: a file or the output is not what it should be. The output is then untouched.
    """
    if config.output is None:
        found = _find(config, session)
        place = {}
    else:
        with atomic_output(config.output) as staging:
            found = _find(config, session)
            write_files(staging, config, found)
        place = {"output": Location(config.output).uri}
    asked = found.lists_of(config.users)
    _tell(found, asked)
    return place | summarise(found) | {"users": [describe_list(entry) for entry in asked]}


def _find(config: RecommendConfig, session: AbstractContextManager[None]) -> Recommendation:
    ratings = read_ratings(config.ratings, config.movies)
    means = genre_means(ratings)
    _check_users(means, config)
    with session:
        fits = sweep_random_states(means.means, config.seed, config.sweep)
    choice = choose(fits, config.sweep)
    clusters = cluster_users(means.means, choice, config.sweep)
    known = set(means.users.tolist())
    strangers = [user for user in config.users if user not in known]
    lists = recommend_to_all(ratings, means, clusters, strangers, config.top_k)
    notes = (*ratings.notes, *_sweep_notes(fits, choice, clusters, config))
    return Recommendation(ratings, means, fits, choice, clusters, lists, notes)


def _check_users(means: GenreMeans, config: RecommendConfig) -> None:
    users, clusters = len(means.users), config.sweep.max_clusters
    if users < 2:
        raise UserError(f"{config.ratings}: holds ratings of 1 user, expected 2 or more to cluster")
    if users < clusters:
        raise UserError(
            f"{config.ratings}: {users} users cannot form {clusters} clusters; "
            f"give --sweep.max-clusters {users} or less"
        )


def _sweep_notes(
    fits: Sequence[StateFits], choice: Choice, clusters: Clusters, config: RecommendConfig
) -> list[str]:
    """What the reader of a sweep should know, one line each."""
    notes = []
    if failed := sum(int((~state.converged).sum()) for state in fits):
        total = len(fits) * len(config.sweep.cluster_counts)
        notes.append(
            f"{failed:,} of {total:,} mixtures did not converge, the chosen one "
            f"{'did' if clusters.converged else 'among them'}: raise --sweep.max-iterations"
        )
    if choice.clusters == config.sweep.max_clusters:
        notes.append(
            f"{choice.clusters} clusters are the most that were tried: raise --sweep.max-clusters"
        )
    return notes


def _tell(found: Recommendation, asked: Sequence[UserList]) -> None:
    """The result as people read it, on stderr."""
    for note in found.notes:
        log.info("note: %s", note)
    votes = found.choice.votes[found.choice.clusters]
    log.info(
        "%d clusters, the choice of %d of %d random states; users in each: %s",
        found.choice.clusters,
        votes,
        len(found.fits),
        ", ".join(map(str, found.clusters.sizes)),
    )
    for entry in asked:
        for line in _describe(entry):
            log.info("%s", line)


def _describe(entry: UserList) -> list[str]:
    """Return a user's list as lines of text."""
    shares = ", ".join(f"{share:.1%}" for share in entry.probabilities)
    place = f"cluster {entry.cluster} (probabilities {shares})" if entry.cluster else ""
    lines = [f"user {entry.user}: {'; '.join(filter(None, (place, entry.note)))}"]
    for rank, film in enumerate(entry.films, start=1):
        lines.append(
            f"  {rank}. {film.title}: rated above 4 by {film.liked_by}, mean {film.mean_rating:.2f}"
        )
    return lines
