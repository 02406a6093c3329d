import csv
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from support.nightly_runs import (
    Unreachable,
    draw,
    draw_images,
    make_model,
    published,
    run_job,
    run_with_ray,
    run_without_ray,
)

from reidray.config.scoring import ScoreConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, AttributeSchema
from reidray.data.reading.annotations import read_annotations
from reidray.errors import UserError
from reidray.scoring.nightly_run import run_nightly
from reidray.scoring.ranking_file import read_ranking

pytestmark = pytest.mark.cluster
NEAR = 0.001


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp("nightly"), people=30, variants=5)


@pytest.fixture(scope="module")
def first_run(ray_address, model, images, tmp_path_factory):  # noqa: ARG001 - it needs Ray
    """Return the output of two workers that rank all but one image of the gallery."""
    output = tmp_path_factory.mktemp("first") / "out"
    run_with_ray(model, images, output, num_workers=2, top_k=149, distractor_scores=True)
    return output


def test_the_first_run_ranks_every_query_and_describes_every_gallery_image(first_run, images):
    ranking = read_ranking((first_run / "reid_test.txt").read_bytes(), "reid_test.txt")
    assert sorted(ranking) == [f"{person:06d}.jpg" for person in range(30)]
    assert {len(set(names)) for names in ranking.values()} == {149}
    of_the_person = [names[0].endswith(query[:6] + ".png") for query, names in ranking.items()]
    assert np.mean(of_the_person) > 0.9
    attributes = read_annotations((first_run / "classification_test.csv").read_bytes(), "csv")
    gallery = (images / "gallery").rglob("*.png")
    assert list(attributes) == sorted(
        path.relative_to(images / "gallery").as_posix() for path in gallery
    )
    assert len({tuple(codes.values()) for codes in attributes.values()}) > 1
    assert (first_run / "quarantine.csv").read_text() == "file,split,reason\n"


def test_the_job_with_one_worker_joins_a_cluster_and_publishes_the_same_bytes(
    ray_address, first_run, model, images, tmp_path
):
    done = run_job(
        *("--model", model, "--queries", images / "queries", "--gallery", images / "gallery"),
        *("--output", tmp_path / "out", "--top-k", 149, "--num-workers", 1),
        *("--ray-address", ray_address, "--distractor-scores"),
    )
    assert done.returncode == 0, done.stderr
    assert published(tmp_path / "out") == published(first_run)
    scores = (tmp_path / "out" / "distractors.csv").read_bytes()
    assert scores == (first_run / "distractors.csv").read_bytes()
    summary = json.loads(done.stdout.splitlines()[-1])
    written = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert summary["output"] == str(tmp_path / "out")
    assert (summary["queries"], summary["gallery"], summary["workers"]) == (30, 150, 1)
    assert summary["images_per_second"] > 0
    assert {"embed", "rank", "write"} <= summary["stages"].keys()
    assert (written["model"], written["metric"]) == (summary["model"], "cosine")


def test_a_bad_image_changes_nothing_but_its_own_lines(first_run, model, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "queries" / "000004.jpg").write_bytes(b"no image")
    for path in (tmp_path / "images" / "gallery").rglob("000007.png"):
        path.write_bytes(path.read_bytes()[:40])
    out = tmp_path / "out"
    summary = run_without_ray(model, tmp_path / "images", out, max_bad=0.05, top_k=149)
    gone = {f"day{day}/000007.png" for day in range(1, 6)}
    with (out / "quarantine.csv").open() as file:
        bad = [(row["file"], row["split"]) for row in csv.DictReader(file)]
    assert bad == [("000004.jpg", "query"), *((name, "gallery") for name in sorted(gone))]
    assert summary["quarantined"] == 6
    whole, damaged = published(first_run), published(out)
    rows = whole["classification_test.csv"].decode().splitlines(keepends=True)
    kept = [row for row in rows if row.split(",")[0] not in gone]
    assert damaged["classification_test.csv"].decode() == "".join(kept)
    before, after = (read_ranking(side["reid_test.txt"], "txt") for side in (whole, damaged))
    assert after.pop("000004.jpg") == ()
    for query, names in after.items():
        remaining = [name for name in before[query] if name not in gone]
        assert list(names)[: len(remaining)] == remaining


def test_too_many_bad_images_leave_the_previous_run_as_it_was(first_run, model, images, tmp_path):
    shutil.copytree(first_run, tmp_path / "out")
    queries = tmp_path / "queries"
    draw(queries / "good.png", 1, 0)
    (queries / "empty.jpg").touch()
    with pytest.raises(UserError, match=r"queries/empty\.jpg"):
        run_without_ray(model, images, tmp_path / "out", queries=str(queries))
    assert published(tmp_path / "out") == published(first_run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "queries"]


def test_a_model_without_attributes_replaces_the_output_and_says_that_it_predicts_none(
    first_run, images, tmp_path
):
    shutil.copytree(first_run, tmp_path / "out")
    (tmp_path / "model").mkdir()
    plain = make_model(tmp_path / "model", "baseline", AttributeSchema())
    settings = {"top_k": 500, "metric": "euclidean", "distractor_scores": True}
    run_without_ray(plain, images, tmp_path / "out", **settings)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"reid_test.txt", "quarantine.csv", "scoring.json", "distractors.csv"}
    scores = (tmp_path / "out" / "distractors.csv").read_text().splitlines()
    assert scores[0] == "file,distractor_score"
    summary = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert "does not predict" in summary["attributes"]
    assert summary["metric"] == "euclidean"
    ranking = read_ranking((tmp_path / "out" / "reid_test.txt").read_bytes(), "reid_test.txt")
    assert {len(names) for names in ranking.values()} == {150}


@pytest.mark.usefixtures("ray_address")
def test_more_workers_than_fit_are_refused_with_what_the_cluster_has(model, images, tmp_path):
    with pytest.raises(UserError, match="`num_workers=9`: the cluster has 2 CPUs"):
        run_with_ray(model, images, tmp_path / "out", num_workers=9)
    with pytest.raises(UserError, match="no GPU"):
        run_with_ray(model, images, tmp_path / "out", use_gpu="yes")
    assert not (tmp_path / "out").exists()


def test_the_job_refuses_invalid_flags_in_one_line_with_status_2(model, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    done = run_job(
        *("--model", model, "--queries", images / "queries", "--gallery", images / "gallery"),
        *("--output", tmp_path / "out"),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "thesis.txt" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"queries": "/nowhere/queries"}, "/nowhere/queries"),
        ({"output": "/proc/out"}, "/proc/out"),
    ],
)
def test_wrong_input_is_found_before_ray_starts(model, images, tmp_path, changes, named):
    settings = {"model": str(model), "queries": str(images / "queries")}
    settings |= {"gallery": str(images / "gallery"), "output": str(tmp_path / "out")}
    with pytest.raises(UserError, match=named):
        run_nightly(ScoreConfig(**(settings | changes)), Unreachable(), starts_ray=True)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_files_cannot_carry_is_found_before_ray_starts(model, images, tmp_path):
    draw(tmp_path / "queries" / "one, two.png", 1, 0)
    settings = {"model": str(model), "queries": str(tmp_path / "queries")}
    settings |= {"gallery": str(images / "gallery"), "output": str(tmp_path / "out")}
    with pytest.raises(UserError, match=r"'one, two\.png'"):
        run_nightly(ScoreConfig(**settings), Unreachable(), starts_ray=True)


def test_images_beyond_the_largest_distance_are_not_named(first_run, model, images, tmp_path):
    summary = run_without_ray(model, images, tmp_path / "out", top_k=149, max_distance=NEAR)
    everything, within = (
        read_ranking((folder / "reid_test.txt").read_bytes(), "reid_test.txt")
        for folder in (first_run, tmp_path / "out")
    )
    assert all(within[query] == names[: len(within[query])] for query, names in everything.items())
    lengths = sorted(len(names) for names in within.values())
    nobody = lengths.count(0)
    assert 0 < nobody < len(lengths)
    assert lengths[-1] < 149
    written = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert written["queries_without_names"] == summary["queries_without_names"] == nobody
    assert written["max_distance"] == NEAR


def read_scores(folder):
    with (folder / "distractors.csv").open() as file:
        return list(csv.DictReader(file))


def test_likely_distractors_are_left_out_of_the_rankings_and_of_nothing_else(
    first_run, model, images, tmp_path
):
    scores = read_scores(first_run)
    assert len({row["file"] for row in scores}) == 150
    values = [float(row["distractor_score"]) for row in scores]
    assert values == sorted(values, reverse=True)
    assert all(0 < float(row["attribute_doubt"]) < 1 for row in scores)
    settings = {"top_k": 149, "max_distractor_score": values[9]}
    summary = run_without_ray(model, images, tmp_path / "out", **settings)
    gone = {row["file"] for row in scores if float(row["distractor_score"]) > values[9]}
    assert summary["distractors_left_out"] == len(gone) == 9
    assert not (tmp_path / "out" / "distractors.csv").exists()
    before, after = published(first_run), published(tmp_path / "out")
    assert after["classification_test.csv"] == before["classification_test.csv"]
    whole, filtered = (read_ranking(side["reid_test.txt"], "txt") for side in (before, after))
    for query, names in filtered.items():
        assert len(names) == 141
        expected = [name for name in whole[query] if name not in gone]
        assert list(names)[: len(expected)] == expected


def test_the_nearest_images_vote_on_the_attributes_and_on_nothing_else(
    first_run, model, images, tmp_path
):
    settings = {"top_k": 149, "attribute_neighbours": 10_000}
    summary = run_without_ray(model, images, tmp_path / "out", **settings)
    assert summary["attribute_neighbours"] == 10_000
    before, after = published(first_run), published(tmp_path / "out")
    assert after["reid_test.txt"] == before["reid_test.txt"]
    alone, voted = (
        read_annotations(side["classification_test.csv"], "csv") for side in (before, after)
    )
    assert list(voted) == list(alone)
    assert voted != alone
    for name in PEDESTRIAN_SCHEMA.names:  # the whole gallery votes
        counts = Counter(labels[name] for labels in alone.values())
        assert {counts[labels[name]] for labels in voted.values()} == {max(counts.values())}


def test_votes_on_attributes_need_attributes(images, tmp_path):
    (tmp_path / "model").mkdir()
    plain = make_model(tmp_path / "model", "baseline", AttributeSchema())
    with pytest.raises(
        UserError, match=r"`attribute_neighbours=5` has nothing to vote on: .*model"
    ):
        run_without_ray(plain, images, tmp_path / "out", attribute_neighbours=5)
    assert not (tmp_path / "out").exists()
