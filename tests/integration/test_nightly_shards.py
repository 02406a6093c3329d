"""The files of a nightly run do not depend on how its images are divided among steps."""

import shutil

import pytest
from support.nightly_runs import draw, draw_images, published, run_without_ray

from reidray.data.listing import image_listing
from reidray.scoring.stages import embed_missing, gallery_search, located_images, missing_images
from reidray.scoring.store import part_file


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
        (gallery_search, "QUERIES_IN_BLOCK", 4),
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
