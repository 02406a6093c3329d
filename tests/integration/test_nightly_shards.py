"""The files of a nightly run do not depend on how its images are divided among steps."""

import shutil

import pytest
from support.nightly_runs import draw, draw_images, published, run_without_ray

from reidray import embed, load_model
from reidray.data.listing import image_listing
from reidray.data.reading.image_folders import list_images
from reidray.retrieval import expand_queries, rerank, top_k
from reidray.scoring.ranking_file import read_ranking
from reidray.scoring.stages import (
    embed_missing,
    located_images,
    missing_images,
    query_blocks,
    reranked_queries,
)
from reidray.scoring.store import part_file
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
        (part_file, "ROW_GROUP", 3),
    ):
        monkeypatch.setattr(module, name, value)


def test_small_pieces_change_no_byte_of_two_nights(model, images, tmp_path, request, monkeypatch):
    options = {"max_bad": 0.2, "top_k": 6, "keep_missing": True}
    run_without_ray(model, images, tmp_path / "first", **options)
    first = published(tmp_path / "first")
    request.getfixturevalue("small_pieces")
    store = {"store": str(tmp_path / "store"), **options}
    assert run_without_ray(model, images, tmp_path / "pieces", **store)["embedded"] == 55
    assert published(tmp_path / "pieces") == first
    assert len(list((tmp_path / "store" / "parts").iterdir())) > 1

    gallery = images / "gallery"
    for number, name in enumerate(["day1", "day3", "day4"]):
        (gallery / name / "000002.png").rename(gallery / name / f"renamed {number}.png")
    (gallery / "day2" / "000003.png").unlink()
    draw(gallery / "day4" / "000004.png", 70, 1)
    draw(gallery / "day9" / "000005.png", 5, 9)
    again = run_without_ray(model, images, tmp_path / "pieces", **store)
    assert again["embedded"] == 2
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
