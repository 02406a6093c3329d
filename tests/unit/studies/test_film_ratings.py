from contextlib import nullcontext

import pytest
from support.rating_files import HEADER, MOVIES, write_ratings

from reidray.cli.arguments import parse_arguments
from reidray.config.films import RecommendConfig, SweepConfig
from reidray.errors import UserError
from reidray.studies.films.genre_means import compute_genre_means
from reidray.studies.films.ratings import read_ratings
from reidray.studies.films.recommend_checks import check_recommend_output
from reidray.studies.films.recommendation import recommend_films

GOOD = "1,1,4,0\n2,2,3,0\n"


def refusal(files, **settings):
    with pytest.raises(UserError) as caught:
        recommend_films(RecommendConfig(**files, **settings), nullcontext())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_genre_has_the_mean_of_the_user_s_genres_and_no_genres_are_a_genre(tmp_path):
    films = MOVIES + "5,Blank,\n"
    lines = "7,1,4,0\n7,4,1,0\n5,1,2,0\n5,3,5,0\n5,2,0.5,0\n5,5,1,0\n6,5,3,0\n"
    ratings = read_ratings(**renamed(write_ratings(tmp_path, lines, films)))
    found = compute_genre_means(ratings)
    assert found.users.tolist() == [5, 6, 7]
    assert found.genres == ("(no genres listed)", "Comedy", "Drama")
    # User 6 rated only a film without genres: the mean of the ratings.
    assert found.means.tolist() == [[3.125, 3.5, 2.75], [3.0, 3.0, 3.0], [1.0, 4.0, 2.5]]
    assert ratings.count_genres() == {"Comedy": 2, "Drama": 2, "(no genres listed)": 1}


def renamed(files):
    return {f"{name}_file": file for name, file in files.items()}


def test_bom_crlf_spaces_and_other_columns_are_read(tmp_path):
    files = write_ratings(tmp_path, "")
    lines = "\ufefftimestamp,rating,movieId,userId\r\n0, 3.5 ,2, 8 \r\n"
    (tmp_path / "ratings.csv").write_bytes(lines.encode())
    [row] = read_ratings(**renamed(files)).table.to_pylist()
    assert row == {"user": 8, "film": 2, "rating": 3.5}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("", "holds no ratings"),
        (GOOD + "\n3,1,abc,0\n", "ratings.csv, line 5: rating is 'abc', expected a number"),
        (GOOD + "3,1,5.5,0\n", "line 4: rating is '5.5', expected a number from 0.5 to 5"),
        (GOOD + "3,1,0,0\n", "line 4: rating is '0'"),
        (GOOD + "3,1,-1,0\n", "line 4: rating is '-1'"),
        (GOOD + "3,1,nan,0\n", "line 4: rating is 'nan'"),
        (GOOD + "3,1,,0\n", "line 4: rating is ''"),
        (GOOD + "1.5,1,4,0\n", "line 4: userId is '1.5', expected a whole number"),
        (GOOD + "9999999999999999999999,1,4,0\n", "line 4: userId is '9999999999999999999999'"),
        (GOOD + "3,x,4,0\n", "line 4: movieId is 'x'"),
        (GOOD + "1,1,5,0\n", "line 4: user 1, film 1 occurs twice, first in line 2"),
        (GOOD + "3,1\n", "Row #4: Expected 4 columns, got 2"),
        ("1,77,4,0\n2,88,4,0\n", "gives no film of"),
        ("1,1,4,0\n1,2,4,0\n", "holds ratings of 1 user"),
        (GOOD, "2 users cannot form 12 clusters; use `sweep.max_clusters=2` or less"),
    ],
)
def test_a_bad_line_is_named(tmp_path, lines, complaint):
    assert complaint in refusal(write_ratings(tmp_path, lines))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a readable CSV"),
        (b"user,movieId,rating\n1,1,4\n", "expected one column 'userId', found user, movieId"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR,\n\xff\xfe,,\n", "ratings.csv: "),
        (HEADER.encode() + b"caf\xe9,1,4,0\n", "invalid UTF8"),
    ],
)
def test_files_without_the_columns_are_refused(tmp_path, content, complaint):
    files = write_ratings(tmp_path, GOOD)
    (tmp_path / "ratings.csv").write_bytes(content)
    assert complaint in refusal(files)


def test_missing_files_and_films_listed_twice_are_refused(tmp_path):
    files = write_ratings(tmp_path, GOOD, MOVIES + "1,Again,Drama\n")
    assert "movies.csv, line 6: film 1 occurs twice, first in line 2" in refusal(files)
    (tmp_path / "movies.csv").unlink()
    assert "movies.csv: there is no such file" in refusal(files)


def test_ratings_of_absent_films_are_counted_and_left_out(tmp_path):
    found = read_ratings(**renamed(write_ratings(tmp_path, GOOD + "1,77,5,0\n3,78,5,0\n")))
    assert found.table["user"].to_pylist() == [1, 2]
    assert "2 ratings left out" in found.notes[0]
    assert "film 77" in found.notes[0]


def test_a_folder_that_holds_something_is_refused_and_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    complaint = refusal(write_ratings(tmp_path, GOOD), output=str(tmp_path / "out"))
    assert "holds 'mine.txt', which would be lost" in complaint
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_earlier_output_may_be_replaced(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    for name in ("recommendations.csv", "clusters.json", "report.html"):
        (output / name).write_text("of yesterday")
    check_recommend_output(RecommendConfig(ratings="-", movies="-", output=str(output)))
    (output / "clusters.json").unlink()
    with pytest.raises(UserError, match="would be lost"):
        check_recommend_output(RecommendConfig(ratings="-", movies="-", output=str(output)))


def test_users_are_given_one_after_another():
    flags = [
        "--ratings",
        "r.csv",
        "--movies",
        "m.csv",
        "--users",
        "4",
        "42",
        "-1",
        "--sweep.max-clusters",
        "4",
    ]
    config = parse_arguments(RecommendConfig, flags).config
    assert config.users == (4, 42, -1)
    assert config.sweep == SweepConfig(max_clusters=4)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--users 4 x", "--users 'x': expected a whole number"),
        ("--users 4 4", "users names 4 twice"),
        ("--users", "--users has no value: expected a whole number"),
        ("--top-k 0", "top-k must be 1 or more"),
        ("--sweep.random-states 0", "sweep.random-states must be 1 or more"),
        ("--sweep.min-clusters 5 --sweep.max-clusters 4", "sweep.min-clusters or more"),
        ("--sweep.regularisation 0", "sweep.regularisation"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_arguments(RecommendConfig, ["--ratings", "r", "--movies", "m", *flags.split()])
