import numpy as np
import pytest

from reidray.config.films import SweepConfig
from reidray.studies.films.gaussian_mixtures import (
    StateFits,
    choose_mixture,
    cluster_users,
    fit_random_state,
)
from reidray.studies.films.random_states import list_random_states
from reidray.studies.films.user_map import map_users

CONFIG = SweepConfig(max_clusters=4)


def groups(*sizes):
    """Return users around distant centres, one centre per size."""
    draw = np.random.default_rng(0)
    return np.concatenate(
        [draw.normal(1 + 1.5 * n, 0.2, (size, 3)) for n, size in enumerate(sizes)]
    )


def fits_of(*curves):
    return [
        StateFits(state, np.array(bic, float), np.ones(4, bool)) for state, bic in enumerate(curves)
    ]


def test_the_choice_is_the_number_with_the_most_votes_and_its_best_fit():
    fits = fits_of([9, 5, 6, 7], [9, 4, 6, 7], [9, 8, 1, 7], [9, 3, 2, 7], [9, 5, 6, 7])
    choice = choose_mixture(fits, CONFIG)
    assert (choice.clusters, choice.random_state) == (2, 3)
    assert choice.votes == {2: 3, 3: 2}


def test_a_tie_of_votes_goes_to_fewer_clusters():
    assert choose_mixture(fits_of([9, 5, 6, 7], [9, 8, 1, 7]), CONFIG).clusters == 2


def test_groups_are_found_and_the_largest_comes_first():
    means = groups(20, 60, 40)
    fits = [fit_random_state(means, state, CONFIG) for state in range(3)]
    choice = choose_mixture(fits, CONFIG)
    clusters = cluster_users(means, choice, CONFIG)
    assert choice.clusters == 3
    assert clusters.sizes.tolist() == [60, 40, 20]
    assert clusters.centres.mean(axis=1) == pytest.approx([2.5, 4.0, 1.0], abs=0.1)
    assert clusters.probabilities.sum(axis=1) == pytest.approx(1)
    assert clusters.bic == min(state.bic[2] for state in fits)
    for cluster, centre in enumerate(clusters.centres):
        members = means[clusters.labels == cluster]
        assert centre == pytest.approx(members.mean(axis=0), rel=1e-12)


def test_a_fit_that_reaches_the_iteration_limit_has_not_converged():
    overlapping = np.random.default_rng(0).normal(3, 1, (80, 3))
    short = SweepConfig(max_clusters=4, max_iterations=1)
    assert not fit_random_state(overlapping, 0, short).converged[1:].any()
    assert fit_random_state(overlapping, 0, CONFIG).converged.all()


@pytest.mark.parametrize("means", [np.full((6, 2), 3.0), np.array([[1.0], [4.0]]), groups(9, 9)])
def test_few_or_equal_users_have_finite_bic_and_coordinates(means):
    config = SweepConfig(max_clusters=2)
    assert np.isfinite(fit_random_state(means, 0, config).bic).all()
    places = map_users(means, 0).coordinates
    assert places.shape == (len(means), 2)
    assert np.isfinite(places).all()


def test_more_random_states_begin_with_the_same_ones_and_seeds_share_none():
    assert list_random_states(0, 50)[:20] == list_random_states(0, 20)
    assert list_random_states(0, 51) == [*range(51)]
    assert not {*list_random_states(0, 50)} & {*list_random_states(1, 50)}
