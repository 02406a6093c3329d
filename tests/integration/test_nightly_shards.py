"""The files of a nightly run do not depend on how its images are divided among steps."""

import csv
import shutil

import numpy as np
import pytest
from support.nightly_runs import draw, draw_images, published, run_without_ray

from reidray import embed, load_model
from reidray.data.listing import image_listing
from reidray.data.reading.annotations import read_annotations
from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.metrics import mean_neighbour_distance
from reidray.retrieval import expand_queries, rerank, top_k, vote_attributes
from reidray.scoring.ranking_file import read_ranking
from reidray.scoring.stages import (
    distractor_files,
    embed_missing,
    located_images,
    missing_images,
    query_blocks,
    reranked_queries,
)
from reidray.scoring.store import described_tables
from reidray.storage.location import Location


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Draw images of many folders, two of them bad, and two with the same content."""
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)
    folder = draw_images(tmp_path / "images", people=9, variants=5)
    (folder / "gallery" / "day2" / "torn.png").write_bytes(b"no image")
    (folder / "queries" / "gone.jpg").symlink_to("nowhere")
    shutil.copy(folder / "gallery/day1/000001.png", folder / "gallery/day5/copy of 1.png")
    return folder


@pytest.fixture
def small_pieces(monkeypatch):
    """Divide everything into pieces of a few images."""
    for module, name, value in (
        (image_listing, "SHARD_ROWS", 7),
        (missing_images, "PARTS_IN_TASK", 2),
        (located_images, "MAX_WANTED", 3),
        (embed_missing, "PART_ROWS", 1),
        (query_blocks, "MAX_QUERIES", 4),
        (reranked_queries, "QUERIES_IN_TASK", 3),
        (distractor_files, "SAMPLE_ROWS", 3),
        (distractor_files, "SAMPLES_IN_RANGE", 2),
        (described_tables, "ROW_GROUP", 3),
    ):
        monkeypatch.setattr(module, name, value)


def test_small_pieces_change_no_byte_of_two_nights(model, images, tmp_path, request, monkeypatch):
    options = {"max_bad": 0.2, "top_k": 6, "keep_missing": True}
    run_without_ray(model, images, tmp_path / "first", **options)
    first = published(tmp_path / "first")
    request.getfixturevalue("small_pieces")
    store = {"store": str(tmp_path / "store"), **options}
    once = run_without_ray(model, images, tmp_path / "pieces", **store)
    assert (once["embedded"], once["queries_searched"]) == (55, 9)
    assert published(tmp_path / "pieces") == first
    assert len(list((tmp_path / "store" / "parts").iterdir())) > 1

    gallery = images / "gallery"
    for number, name in enumerate(["day1", "day3", "day4"]):
        (gallery / name / "000002.png").rename(gallery / name / f"renamed {number}.png")
    (gallery / "day2" / "000003.png").unlink()
    draw(gallery / "day4" / "000004.png", 70, 1)
    draw(gallery / "day9" / "000005.png", 5, 9)
    again = run_without_ray(model, images, tmp_path / "pieces", **store)
    assert (again["embedded"], again["queries_searched"]) == (2, 0)
    monkeypatch.undo()
    run_without_ray(model, images, tmp_path / "alone", **options)
    assert published(tmp_path / "pieces") == published(tmp_path / "alone") != first


def test_a_query_folder_that_is_the_gallery_finds_each_image_first(model, tmp_path):
    draw_images(tmp_path, people=6, variants=2)
    folder = str(tmp_path / "gallery")
    where = {"queries": folder, "gallery": folder, "store": str(tmp_path / "store")}
    run_without_ray(model, tmp_path, tmp_path / "out", **where)
    lines = (tmp_path / "out" / "reid_test.txt").read_text().splitlines()
    pairs = [line.split(": ", 1) for line in lines]
    assert len(pairs) == 12
    assert all(query == names.split(", ")[0] for query, names in pairs)
    assert all(len(names.split(", ")) == 12 for _, names in pairs)


def features_of(model, folder):
    """Return the sorted paths and the features of the images of a folder."""
    paths = list_images(Location(str(folder)))
    return paths, embed(load_model(str(model)), [folder / path for path in paths])


def names_of(output):
    return {
        query: list(names)
        for query, names in read_ranking(
            (output / "reid_test.txt").read_bytes(), "reid_test.txt"
        ).items()
    }


def test_reranking_the_whole_gallery_is_the_exact_reranking(
    model,
    tmp_path,
    small_pieces,  # noqa: ARG001 - it divides the work
):
    images = draw_images(tmp_path / "images", people=9, variants=5)
    run_without_ray(model, images, tmp_path / "out", rerank=45, top_k=7, metric="euclidean")
    (queries, query), (gallery, found) = (
        features_of(model, images / name) for name in ("queries", "gallery")
    )
    _, best = rerank(query, found, 7)
    assert names_of(tmp_path / "out") == {
        name: [gallery[place] for place in row] for name, row in zip(queries, best, strict=True)
    }


def test_expanded_queries_find_what_the_exact_ones_find(
    model,
    tmp_path,
    small_pieces,  # noqa: ARG001 - it divides the work
):
    images = draw_images(tmp_path / "images", people=9, variants=5)
    run_without_ray(model, images, tmp_path / "out", expand=3, top_k=7, metric="euclidean")
    (queries, query), (gallery, found) = (
        features_of(model, images / name) for name in ("queries", "gallery")
    )
    _, best = top_k(expand_queries(query, found, k=3), found, 7)
    assert names_of(tmp_path / "out") == {
        name: [gallery[place] for place in row] for name, row in zip(queries, best, strict=True)
    }


@pytest.mark.parametrize("options", [{"rerank": 24}, {"rerank": 24, "expand": 4}])
def test_reranking_does_not_depend_on_the_division(options, model, images, tmp_path, request):
    options = {"max_bad": 0.2, "top_k": 6, **options}
    run_without_ray(model, images, tmp_path / "whole", **options)
    request.getfixturevalue("small_pieces")
    run_without_ray(model, images, tmp_path / "pieces", **options)
    assert published(tmp_path / "pieces") == published(tmp_path / "whole")
    assert len(names_of(tmp_path / "whole")["000001.jpg"]) == 6
    assert names_of(tmp_path / "whole")["gone.jpg"] == []


@pytest.fixture
def copied_images(tmp_path):
    """Draw images, nine of which have the same content and the same scores."""
    images = draw_images(tmp_path / "images", people=9, variants=5)
    for number in range(8):
        copy = images / "gallery" / f"day{number % 4 + 1}" / f"copy {number}.png"
        shutil.copy(images / "gallery" / "day1" / "000001.png", copy)
    return images


def read_scores(output):
    with (output / "distractors.csv").open() as file:
        rows = list(csv.DictReader(file))
    paths = [row["file"] for row in rows]
    return paths, *(
        np.array([row[name] for row in rows], np.float32)
        for name in ("distractor_score", "attribute_doubt")
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distractor_scores_are_those_of_the_whole_gallery_in_order(
    metric,
    model,
    copied_images,
    tmp_path,
    small_pieces,  # noqa: ARG001 - it divides the work
):
    options = {"distractor_scores": True, "metric": metric, "attribute_neighbours": 4}
    run_without_ray(model, copied_images, tmp_path / "out", **options)
    (_, query), (gallery, found) = (
        features_of(model, copied_images / name) for name in ("queries", "gallery")
    )
    paths, scores, doubt = read_scores(tmp_path / "out")
    order = [gallery.index(path) for path in paths]
    assert sorted(order) == list(range(53))
    distance = mean_neighbour_distance(query, found, metric=metric)
    assert scores.tobytes() == (distance[order] * doubt).tobytes()
    assert list(zip(-scores, order, strict=True)) == sorted(zip(-scores, order, strict=True))
    assert (scores == 0).sum() == 9


def test_the_nearest_of_all_shards_vote_on_attributes(
    model,
    copied_images,
    tmp_path,
    small_pieces,  # noqa: ARG001 - it divides the work
):
    votes = {"attribute_neighbours": 4, "metric": "euclidean"}
    for name, options in (("alone", {}), ("voted", votes)):
        run_without_ray(model, copied_images, tmp_path / name, **options)
    alone, voted = (
        read_annotations((tmp_path / name / "classification_test.csv").read_bytes(), name)
        for name in ("alone", "voted")
    )
    gallery, found = features_of(model, copied_images / "gallery")
    assert list(alone) == list(voted) == gallery
    labels, expected = (
        np.array([list(codes.values()) for codes in side.values()]) for side in (alone, voted)
    )
    np.testing.assert_array_equal(vote_attributes(found, labels, k=4), expected)
    assert (labels != expected).any()


@pytest.mark.parametrize("more", [{}, {"rerank": 24, "top_k": 6, "expand": 4}])
def test_images_left_out_do_not_depend_on_the_division(more, model, images, tmp_path, request):
    options = {"max_bad": 0.2, "top_k": 60, "distractor_scores": True}
    run_without_ray(model, images, tmp_path / "all", **options)
    paths, scores, _ = read_scores(tmp_path / "all")
    options |= {
        "max_distractor_score": float(scores[6]),
        "attribute_neighbours": 3,
        "keep_missing": True,
        **more,
    }
    summary = run_without_ray(model, images, tmp_path / "whole", **options)
    assert summary["distractors_left_out"] == 6
    request.getfixturevalue("small_pieces")
    run_without_ray(model, images, tmp_path / "pieces", **options)
    assert published(tmp_path / "pieces") == published(tmp_path / "whole")
    for name in ("whole", "pieces"):
        listed = (tmp_path / name / "distractors.csv").read_bytes()
        assert listed == (tmp_path / "all" / "distractors.csv").read_bytes()
    ranked = {name for names in names_of(tmp_path / "whole").values() for name in names}
    assert ranked.isdisjoint(paths[:6])
    assert more or ranked == set(paths[6:])


def test_a_score_that_leaves_nothing_is_refused_with_the_least_score(model, images, tmp_path):
    with pytest.raises(
        UserError, match=r"`max_distractor_score=-1` leaves out the whole gallery.*least score is 0"
    ):
        run_without_ray(model, images, tmp_path / "out", max_bad=0.2, max_distractor_score=-1.0)
    assert not (tmp_path / "out").exists()


def test_a_second_night_with_reranking_searches_new_images_only(
    model,
    tmp_path,
    small_pieces,  # noqa: ARG001 - it divides the work
):
    images = draw_images(tmp_path / "images", people=9, variants=5)
    options = {"rerank": 24, "top_k": 6, "store": str(tmp_path / "store")}
    assert run_without_ray(model, images, tmp_path / "out", **options)["queries_searched"] == 9
    first = published(tmp_path / "out")
    draw(images / "gallery" / "day3" / "new.png", 4, 9)
    (images / "gallery" / "day2" / "000001.png").unlink()
    assert run_without_ray(model, images, tmp_path / "out", **options)["queries_searched"] == 0
    run_without_ray(model, images, tmp_path / "alone", **(options | {"store": None}))
    assert published(tmp_path / "out") == published(tmp_path / "alone") != first
