import csv
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from support.paths import ROOT
from support.rating_files import write_two_tastes

from reidray.config.films import SweepConfig
from reidray.studies.films.gaussian_mixtures import fit_random_state
from reidray.studies.films.genre_means import compute_genre_means
from reidray.studies.films.ratings import read_ratings

pytestmark = pytest.mark.cluster
MOVIELENS = ROOT / "../shared/data/movielens-small"
SWEEP = SweepConfig(random_states=6, max_clusters=4)
SHORT = ("--sweep.random-states", 6, "--sweep.max-clusters", 4)
NEW_USER = 1000


def run_job(*arguments):
    command = [sys.executable, ROOT / "jobs" / "recommend.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_two_tastes(tmp_path_factory.mktemp("ratings"))


@pytest.fixture(scope="module")
def done(ray_address, files, tmp_path_factory):
    """Run the job on a cluster with two CPUs; return its folder, JSON line and messages."""
    output = tmp_path_factory.mktemp("done") / "out"
    inputs = ("--ratings", files["ratings"], "--movies", files["movies"], "--output", output)
    run = run_job(*inputs, *SHORT, "--users", 3, NEW_USER, "--ray-address", ray_address)
    assert run.returncode == 0, run.stderr
    return output, json.loads(run.stdout.splitlines()[-1]), run.stderr


def test_users_of_two_tastes_form_two_clusters_with_their_own_lists(done):
    output, result, messages = done
    assert (result["clusters"], sorted(result["sizes"])) == (2, [30, 30])
    likes_dramas, new_user = result["users"]
    assert likes_dramas["cluster"] == np.argmax(likes_dramas["probabilities"]) + 1
    assert likes_dramas["films"]
    assert {film["film"] % 2 for film in likes_dramas["films"]} == {1}
    assert len(new_user["films"]) == 5
    assert "no ratings" in new_user["note"]
    lines = messages.splitlines()
    first_line = lines.index(next(line for line in lines if line.startswith(f"user {NEW_USER}: ")))
    assert "no ratings" in lines[first_line]
    listed = [line.split(": ")[0] for line in lines[first_line + 1 : first_line + 6]]
    assert listed == [f"  {n}. {film['title']}" for n, film in enumerate(new_user["films"], 1)]
    with (output / "recommendations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["user"]) for row in rows} == {*range(1, 61), NEW_USER}
    mine = [int(row["film"]) for row in rows if row["user"] == "3"]
    assert mine == [film["film"] for film in likes_dramas["films"]]
    assert {row["genres"] for row in rows if row["user"] == "3"} == {"Drama"}
    assert all(film["genres"] == ["Drama"] for film in likes_dramas["films"])


class References(HTMLParser):
    """Collect the addresses that a page refers to."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link")
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_the_report_needs_no_other_file(done):
    output, _, _ = done
    page = (output / "report.html").read_text()
    references = References()
    references.feed(page)
    assert len(references.addresses) == 5
    assert all(address.startswith("data:image/png;base64,") for address in references.addresses)
    assert f"User {NEW_USER}" in page
    assert "Mean of each genre:" in page
    assert page.count('scope="rowgroup" rowspan="5"') == 2
    assert {path.name for path in output.iterdir()} == {
        "recommendations.csv",
        "clusters.json",
        "report.html",
    }


def test_fits_on_a_cluster_equal_those_of_one_process(done, files):
    output, result, _ = done
    kept = json.loads((output / "clusters.json").read_text())
    means = compute_genre_means(read_ratings(files["ratings"], files["movies"])).means
    for state in kept["sweep"]:
        alone = fit_random_state(means, state["random_state"], SWEEP)
        assert state["bic"] == alone.bic.round(6).tolist()
    assert len({state["random_state"] for state in kept["sweep"]}) == 6
    assert result["bic"] == min(state["bic"][1] for state in kept["sweep"])


def test_an_invalid_rating_is_refused_in_one_line_with_status_2(files, tmp_path):
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("userId,movieId,rating\n1,1,4\n1,2,eleven\n")
    run = run_job(
        *("--ratings", ratings, "--movies", files["movies"], "--output", tmp_path / "out")
    )
    assert (run.returncode, run.stdout) == (2, "")
    said = [line for line in run.stderr.splitlines() if not line.startswith("loading ")]
    assert len(said) == 1  # a slow start is told of in other lines
    assert said[0].startswith(f"error: {ratings}, line 3: rating is 'eleven'")
    assert list(tmp_path.iterdir()) == [ratings]


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="needs ../shared/data/movielens-small")
def test_movielens_users_get_five_films_they_have_not_rated(ray_address):
    inputs = ("--ratings", MOVIELENS / "ratings.csv", "--movies", MOVIELENS / "movies.csv")
    run = run_job(*inputs, *SHORT, "--users", 4, 42, 314, "--ray-address", ray_address)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert (result["ratings"], result["rating_users"], result["clusters"]) == (100836, 610, 3)
    assert sum(result["sizes"]) == 610
    table = read_ratings(*map(str, inputs[1::2])).table
    pairs = set(zip(table["user"].to_pylist(), table["film"].to_pylist(), strict=True))
    for entry in result["users"]:
        films = [film["film"] for film in entry["films"]]
        assert len(films) == len(set(films)) == 5
        assert pairs.isdisjoint((entry["user"], film) for film in films)
        assert sum(entry["probabilities"]) == pytest.approx(1, abs=1e-5)
