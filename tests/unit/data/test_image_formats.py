import numpy as np
import pytest
from PIL import Image
from support.tiny_images import encode_image, tiny_jpeg, two_coloured_image, write_images

from reidray.data.images.decoding import decode_files, decode_image
from reidray.data.images.image_formats import (
    FORMATS,
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    is_image_head,
)
from reidray.data.images.pil_images import ImageDecodeError
from reidray.data.layouts import read_manifest
from reidray.data.reading.image_folders import describe_skipped, find_images, list_images
from reidray.errors import UserError
from reidray.storage.location import Location

WRITTEN = {"JPEG2000": ({}, {"no_jp2": True})}


def test_the_suffixes_are_those_that_pillow_knows():
    known = Image.registered_extensions()
    for name, suffixes in FORMATS.items():
        mine = {suffix for suffix, kind in known.items() if kind == name}
        assert mine <= set(suffixes)
        assert {known[suffix] for suffix in suffixes} <= {name, "MPO", "DIB"}
    assert not IMAGE_SUFFIXES & OTHER_SUFFIXES


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_recognised_by_its_first_bytes(kind):
    for options in WRITTEN.get(kind, ({},)):
        data = encode_image(two_coloured_image(), kind, **options)
        assert is_image_head(data[:HEAD_BYTES])
        pixels = decode_image(data, None).astype(int)
        assert np.abs(pixels - np.asarray(two_coloured_image())).mean() < 6


def test_formats_that_run_programs_or_have_no_signature_are_not_read():
    for kind in ("EPS", "TGA", "PDF", "ICO"):
        data = encode_image(two_coloured_image(), kind)
        assert not is_image_head(data[:HEAD_BYTES])
        with pytest.raises(ImageDecodeError, match="not an image"):
            decode_image(data, None)
    for text in (
        b"BMW is a firm, and this a text of it",
        b"P5 is a page",
        b"GIF89 is",
        b"",
        b"II*",
    ):
        assert not is_image_head(text)


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000", "AVIF", "QOI"])
def test_a_truncated_image_is_refused_unless_no_pixel_is_lost(kind):
    noise = np.random.default_rng(0).integers(0, 255, (48, 24, 3), dtype=np.uint8)
    for options in WRITTEN.get(kind, ({},)):
        whole = encode_image(Image.fromarray(noise), kind, **options)
        pixels = decode_image(whole, None)
        for length in (*range(300), *range(300, len(whole), 1 + len(whole) // 300)):
            try:
                decoded = decode_image(whole[:length], None)
            except ImageDecodeError:
                continue
            assert np.array_equal(decoded, pixels), length


NAMES = ("a.jfif", "b.JPE", "c.jpg", "d", "e.2024", "0002_c1s1_000451_03")


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """Return a folder, and a function that puts a file into it."""
    if request.param == "disk":

        def put(name, data):
            file = tmp_path / "set" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

        return Location(str(tmp_path / "set")), put
    uri = f"{request.getfixturevalue('bucket')}/set"

    def put_object(name, data):
        Location(uri).write_bytes(name, data)

    return Location(uri), put_object


def test_images_of_any_name_are_found_and_other_files_are_counted(place):
    location, put = place
    for name in NAMES:
        put(name, tiny_jpeg())
    for name, kind in (("f.ppm", "PPM"), ("g.jp2", "JPEG2000"), ("h.avif", "AVIF")):
        put(name, encode_image(two_coloured_image(), kind))
    others = (
        "notes.txt",
        "deep/more.TXT",
        "list.csv",
        "README",
        "odd.thing",
        "p.eps",
        ".hidden.jpg",
    )
    for name in others:
        put(name, b"no image, but some bytes of text")
    for junk in ("Thumbs.db", ".DS_Store", "._c.jpg", "desktop.ini", "@eaDir/c.jpg/M.jpg"):
        put(junk, tiny_jpeg())
    for folder in ("__MACOSX", "lost+found", ".cache/a", ".cache/b", "deep/.git"):
        put(f"{folder}/x.jpg", tiny_jpeg())
    found = find_images(location)
    assert found.paths == tuple(sorted((*NAMES, "f.ppm", "g.jp2", "h.avif")))
    expected = {
        ".txt": 2,
        ".csv": 1,
        "without a suffix": 1,
        ".thing": 1,
        ".eps": 1,
        "hidden": 1,
        "hidden folders": 2,
    }
    assert found.skipped == expected
    assert describe_skipped(found.skipped).startswith("skipped: 2 .txt, 2 hidden folders, 1 .csv")
    assert not decode_files(location, found.paths, (16, 8)).bad


def test_the_error_of_a_folder_without_images_names_its_files(place):
    location, put = place
    put("a.txt", b"x")
    put("b.txt", b"x")
    with pytest.raises(UserError, match=r"holds no images .*; skipped: 2 \.txt$"):
        find_images(location)


def test_first_bytes_are_read_for_unknown_suffixes_only(tmp_path, monkeypatch):
    write_images(tmp_path, ["a.jpg", "b.txt", "c.parquet", "d", "e.xyz"])
    opened = []
    monkeypatch.setattr(
        Location, "read_head", lambda _, path, __: opened.append(path) or tiny_jpeg()[:32]
    )
    assert list_images(Location(str(tmp_path))) == ["a.jpg", "d", "e.xyz"]
    assert opened == ["d", "e.xyz"]


def test_training_folders_of_jfif_are_people(tmp_path):
    write_images(tmp_path, ["1/a.jpg", "2/a.jfif", "3/a"])
    assert read_manifest(str(tmp_path)).table["person"].to_pylist() == [1, 2, 3]
