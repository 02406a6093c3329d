"""Run the recommendation job: cluster users by their ratings, and list films for them."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from reidray.config.films import RecommendConfig
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.studies.films.film_lists import UserList, recommend_to_all
from reidray.studies.films.gaussian_mixtures import (
    Choice,
    Clusters,
    StateFits,
    choose_mixture,
    cluster_users,
)
from reidray.studies.films.genre_means import GenreMeans, compute_genre_means
from reidray.studies.films.random_states import fit_random_states
from reidray.studies.films.ratings import read_ratings
from reidray.studies.films.recommend_checks import CLUSTERS_FILE, RECOMMENDATION_FILES
from reidray.studies.films.recommendation_files import (
    Recommendation,
    list_to_dict,
    summarize,
    write_files,
)

log = logging.getLogger("reidray")


def recommend_films(
    config: RecommendConfig, session: AbstractContextManager[None]
) -> dict[str, Any]:
    """Cluster users by their ratings of genres, and recommend films to them.

    Args:
        config: the configuration of the job.
        session: a connection to Ray, which is opened after the files are read.

    Returns:
        The clusters, the lists of the requested users and the output folder.

    Raises:
        UserError: a file or the output is not valid. The output does not change then.
    """
    if config.output is None:
        result = _recommend(config, session)
        output = {}
    else:
        with atomic_output(config.output, RECOMMENDATION_FILES, CLUSTERS_FILE) as staging:
            result = _recommend(config, session)
            write_files(staging, config, result)
        output = {"output": Location(config.output).uri}
    requested = result.lists_of(config.users)
    _log_result(result, requested)
    return output | summarize(result) | {"users": [list_to_dict(each) for each in requested]}


def _recommend(config: RecommendConfig, session: AbstractContextManager[None]) -> Recommendation:
    """Read the ratings, cluster the users and list films for them."""
    ratings = read_ratings(config.ratings, config.movies)
    means = compute_genre_means(ratings)
    _check_users(means, config)
    with session:
        fits = fit_random_states(means.means, config.seed, config.sweep)
    choice = choose_mixture(fits, config.sweep)
    clusters = cluster_users(means.means, choice, config.sweep)
    known = set(means.users.tolist())
    new_users = [user for user in config.users if user not in known]
    lists = recommend_to_all(ratings, means, clusters, new_users, config.top_k)
    notes = (*ratings.notes, *_sweep_notes(fits, choice, clusters, config))
    return Recommendation(ratings, means, fits, choice, clusters, lists, notes)


def _check_users(means: GenreMeans, config: RecommendConfig) -> None:
    users, clusters = len(means.users), config.sweep.max_clusters
    if users < 2:
        raise UserError(f"{config.ratings}: holds ratings of 1 user, expected 2 or more to cluster")
    if users < clusters:
        raise UserError(
            f"{config.ratings}: {users} users cannot form {clusters} clusters; "
            f"use `sweep.max_clusters={users}` or less"
        )


def _sweep_notes(
    fits: Sequence[StateFits], choice: Choice, clusters: Clusters, config: RecommendConfig
) -> list[str]:
    """Return notes on the convergence and on the number of clusters, one line each."""
    notes = []
    if failed := sum(int((~state.converged).sum()) for state in fits):
        total = len(fits) * len(config.sweep.cluster_counts)
        notes.append(
            f"{failed:,} of {total:,} mixtures did not converge, the chosen one "
            f"{'did' if clusters.converged else 'among them'}: raise --sweep.max-iterations"
        )
    if choice.clusters == config.sweep.max_clusters:
        notes.append(
            f"{choice.clusters} clusters are the largest number tried: raise --sweep.max-clusters"
        )
    return notes


def _log_result(result: Recommendation, requested: Sequence[UserList]) -> None:
    """Log the notes, the clusters and the requested lists."""
    for note in result.notes:
        log.info("note: %s", note)
    votes = result.choice.votes[result.choice.clusters]
    log.info(
        "%d clusters, the choice of %d of %d random states; users in each: %s",
        result.choice.clusters,
        votes,
        len(result.fits),
        ", ".join(map(str, result.clusters.sizes)),
    )
    for each in requested:
        for line in _list_lines(each):
            log.info("%s", line)


def _list_lines(entry: UserList) -> list[str]:
    """Return the list of a user as lines of text."""
    shares = ", ".join(f"{share:.1%}" for share in entry.probabilities)
    cluster = f"cluster {entry.cluster} (probabilities {shares})" if entry.cluster else ""
    lines = [f"user {entry.user}: {'; '.join(filter(None, (cluster, entry.note)))}"]
    for rank, film in enumerate(entry.films, start=1):
        lines.append(
            f"  {rank}. {film.title}: rated above 4 by {film.liked_by}, mean {film.mean_rating:.2f}"
        )
    return lines
