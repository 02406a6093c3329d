from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reidray.studies.films.film_lists import NO_RATINGS, NOTHING_NEW, recommend_to_all
from reidray.studies.films.gaussian_mixtures import Clusters
from reidray.studies.films.genre_means import GenreMeans, compute_genre_means
from reidray.studies.films.ratings import Ratings

STRANGER = 99
TOP_K = 3
GENRES = [["A"], ["B"], ["A", "B"], [], ["C"], ["A"]]
rated = st.dictionaries(
    st.tuples(st.integers(1, 6), st.integers(0, 5)),
    st.integers(1, 10).map(lambda halves: halves / 2),
    min_size=1,
).filter(lambda stars: any(GENRES[film] for _, film in stars))


def tables(stars):
    rows = [{"user": u, "film": f, "rating": r} for (u, f), r in stars.items()]
    films = [{"film": f, "title": f"Film {f}", "genres": g} for f, g in enumerate(GENRES)]
    schema = [("film", pa.int64()), ("title", pa.string()), ("genres", pa.list_(pa.string()))]
    return Ratings(pa.Table.from_pylist(rows), pa.Table.from_pylist(films, pa.schema(schema)))


def clusters_of(labels, count=2):
    return Clusters(np.zeros((count, 3)), np.eye(count)[labels], 0.0, True)


def of_genre(own, genre):
    stars = [value for film, value in own.items() if genre in GENRES[film]]
    return np.mean(stars) if stars else np.nan


@given(rated)
def test_genre_means_are_those_of_plain_loops(stars):
    found = compute_genre_means(tables(stars))
    for row, user in enumerate(found.users.tolist()):
        own = {film: stars[user, film] for film in range(6) if (user, film) in stars}
        for column, genre in enumerate(found.genres):
            expected = of_genre(own, genre)
            if np.isnan(expected):
                every = [of_genre(own, each) for each in found.genres]
                others = [mean for mean in every if not np.isnan(mean)]
                expected = np.mean(others or list(own.values()))
            assert np.isclose(found.means[row, column], expected, rtol=1e-12)


def ordered_by_loops(stars, people, without):
    """Return the films that some users like, the best first, without some films."""
    of = defaultdict(list)
    for (user, film), value in stars.items():
        if user in people and film not in without:
            of[film].append(value)
    key = {film: (-sum(v > 4 for v in values), -np.mean(values)) for film, values in of.items()}
    return sorted((film for film in of if key[film][0]), key=lambda film: (*key[film], film))


@given(rated, st.lists(st.integers(0, 1), min_size=6, max_size=6))
def test_a_list_has_the_favourites_of_the_cluster_that_the_user_has_not_rated(stars, drawn):
    ratings = tables(stars)
    means = compute_genre_means(ratings)
    users = means.users.tolist()
    labels = np.array(drawn[: len(users)])
    lists = recommend_to_all(ratings, means, clusters_of(labels), [STRANGER], TOP_K)
    assert [entry.user for entry in lists] == [*users, STRANGER]
    for entry, label in zip(lists, labels, strict=False):
        others = {u for u, other in zip(users, labels, strict=True) if other == label}
        seen = {film for user, film in stars if user == entry.user}
        expected = ordered_by_loops(stars, others - {entry.user}, seen)
        if entry.note:
            assert (expected, entry.note) == ([], NOTHING_NEW)
            expected = ordered_by_loops(stars, users, seen)
        assert [film.film for film in entry.films] == expected[:TOP_K]
        assert entry.cluster == label + 1
    stranger = lists[-1]
    assert (stranger.cluster, stranger.probabilities, stranger.note) == (None, (), NO_RATINGS)
    assert [film.film for film in stranger.films] == ordered_by_loops(stars, users, ())[:TOP_K]


def test_ties_go_to_the_higher_mean_then_the_lower_id():
    stars = {(1, 3): 4.5, (1, 2): 5.0, (1, 1): 4.5, (1, 0): 4.5, (2, 0): 1.0, (3, 4): 3.0}
    means = GenreMeans(np.array([1, 2, 3]), ("A",), np.zeros((3, 1)))
    lists = recommend_to_all(tables(stars), means, clusters_of([0, 0, 0]), [], 9)
    assert [film.film for film in lists[2].films] == [2, 1, 3, 0]
