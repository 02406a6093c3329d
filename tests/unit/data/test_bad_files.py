import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.bad_files import decompression_bomb, many_scans, put_bad_files, unusual_images
from support.tiny_images import encode_image, tiny_jpeg, two_coloured_image, write_images

from reidray.data.images.decoding import decode_files, decode_image, decode_mask
from reidray.data.images.pil_images import MAX_PIXELS, MAX_SIDE, ImageDecodeError
from reidray.data.layouts import read_manifest
from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.storage.location import Location

WITHIN_SECONDS = 20
DECODE = """
import resource, sys
from pathlib import Path
from reidray.data.images.decoding import ImageDecodeError, decode_image

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        print(decode_image(Path(name).read_bytes(), (128, 64)).shape)
    except ImageDecodeError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def decode_in_a_process(*files):
    """Decode files in a process; return the outcome of each, and the growth of its memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", DECODE, *files],
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=True,
    )
    *outcomes, megabytes = done.stdout.splitlines()
    return outcomes, int(megabytes)


def put_files(tmp_path):
    """Write a folder of images and bad files; return the folder and the reasons."""
    write_images(tmp_path, ["elsewhere/secret.jpg", "set/a, b.jpg", "set/inner/c.jpg"])
    return Location(str(tmp_path / "set")), put_bad_files(tmp_path / "set", tmp_path / "elsewhere")


def test_all_files_with_names_of_images_are_listed_and_nothing_elsewhere(tmp_path):
    location, reasons = put_files(tmp_path)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "same").symlink_to("inner")
    (tmp_path / "set" / "inner" / "linked.jpg").symlink_to("c.jpg")
    good = {"a, b.jpg", "inner/c.jpg", "inner/linked.jpg"}
    assert list_images(location) == sorted(good | reasons.keys())
    assert list_images(location, "inner") == ["inner/c.jpg", "inner/linked.jpg"]


def test_bad_files_are_set_aside_with_a_reason_without_waiting(tmp_path):
    location, reasons = put_files(tmp_path)
    decoded = decode_files(location, list_images(location), (32, 16))
    assert decoded.kept == (0, list_images(location).index("inner/c.jpg"))
    assert {bad.path for bad in decoded.bad} == reasons.keys()
    for bad in decoded.bad:
        assert re.search(reasons[bad.path], bad.reason), bad
        assert bad.reason.isprintable()
        assert str(tmp_path) not in bad.reason


def test_an_image_behind_a_linked_folder_is_set_aside(tmp_path):
    location, _ = put_files(tmp_path)
    (bad,) = decode_files(location, ["outside folder.jpg/secret.jpg"], (32, 16)).bad
    assert bad.reason == "a link that leaves the folder: see `follow_links`"


def test_bad_files_do_not_stop_a_training_and_linked_folders_are_not_listed(tmp_path):
    _, reasons = put_files(tmp_path)
    (tmp_path / "people").mkdir()
    (tmp_path / "set").rename(tmp_path / "people" / "0007")
    manifest = read_manifest(str(tmp_path / "people"), "folders")
    listed = set(manifest.table["path"].to_pylist())
    assert {f"0007/{name}" for name in reasons} <= listed
    (tmp_path / "trento").mkdir()
    (tmp_path / "trento" / "train").symlink_to(tmp_path / "people" / "0007")
    with pytest.raises(UserError, match="train: is a link that leaves"):
        read_manifest(str(tmp_path / "trento"), "trento")


def test_names_that_are_not_utf8_are_refused_by_name(tmp_path):
    folder = tmp_path / "people" / "1"
    folder.mkdir(parents=True)
    strange = os.fsdecode(b"caf\xe9.jpg")
    (folder / strange).write_bytes(tiny_jpeg())
    assert list_images(Location(str(folder))) == [strange]
    with pytest.raises(UserError, match=r"'1/caf\\udce9\.jpg' is not UTF-8"):
        read_manifest(str(tmp_path / "people"), "folders")
    with pytest.raises(UserError, match=r"caf\\udce9' is not UTF-8"):
        Location(str(tmp_path / os.fsdecode(b"caf\xe9")))


@pytest.mark.parametrize("name", unusual_images(two_coloured_image()))
def test_every_kind_of_image_has_the_pixels_of_the_plain_one(name):
    grey = two_coloured_image().convert("L").convert("RGB")
    pixels = decode_image(unusual_images(grey)[name], None)
    difference = np.abs(pixels.astype(int) - np.asarray(grey))
    assert difference.max() <= (3 if "jpg" in name and name != "png.jpg" else 0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_truncated_jpeg_is_a_bad_image(kind, options):
    """Check that an image that is truncated anywhere is refused, or has lost no pixel."""
    whole = encode_image(two_coloured_image(24, 48), kind, **options)
    pixels = decode_image(whole, None)
    for length in range(0, len(whole), 1 + len(whole) // 300):
        try:
            decoded = decode_image(whole[:length], None)
        except ImageDecodeError:
            continue
        assert np.array_equal(decoded, pixels), length
        assert length > len(whole) - 32


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_a_bad_image(progressive):
    whole = encode_image(two_coloured_image(24, 48), progressive=progressive)
    for length in range(len(whole) // 2, len(whole) - 2, 9):
        for filling in (b"\0", b"\xff"):
            with pytest.raises(ImageDecodeError, match="broken"):
                decode_image(whole[:length].ljust(len(whole), filling), None)


def noted(note):
    """Return a JPEG of an image on its side, with some bytes as its EXIF data."""
    return encode_image(
        two_coloured_image().transpose(Image.Transpose.ROTATE_90), exif=b"Exif\0\0" + note
    )


def camera_note():
    """Return EXIF data of an image on its side, as a camera writes them."""
    note = Image.Exif()
    note[0x0112], note[0x010F], note[0x9286] = 6, "a camera", b"a remark"
    note.get_ifd(0x8769)[0x9000] = b"0230"
    note.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return note.tobytes()[len(b"Exif\0\0") :]


def test_an_image_with_broken_exif_data_is_read():
    turned, upright = (64, 128, 3), (128, 64, 3)
    whole = camera_note()
    assert decode_image(noted(whole), None).shape == upright
    for broken in (b"", b"nonsense", whole[:9], b"II*\0\xff\xff\xff\xff"):
        assert decode_image(noted(broken), None).shape == turned
    random = np.random.default_rng(0)
    for _ in range(300):
        broken = np.frombuffer(whole, np.uint8).copy()
        broken[random.integers(0, len(whole), 3)] = random.integers(0, 256, 3)
        assert decode_image(noted(broken.tobytes()), None).shape in (turned, upright)


def test_exif_data_behind_a_long_profile_are_read():
    note = Image.Exif()
    note[0x0112] = 6
    lying = two_coloured_image().transpose(Image.Transpose.ROTATE_90)
    whole = encode_image(lying, exif=note)
    mark = whole.index(b"\xff\xe1")
    profile = b"\xff\xe2\xff\xf0" + bytes(0xFFF0 - 2)
    assert decode_image(whole[:mark] + profile * 2 + whole[mark:], None).shape == (128, 64, 3)


def test_an_image_of_very_many_scans_is_refused_and_one_of_some_is_read():
    assert decode_image(many_scans(16, 32, 50), None).shape == (32, 16, 3)
    for decode in (
        lambda data: decode_image(data, None),
        lambda data: decode_mask(data, (1, 1), None),
    ):
        with pytest.raises(ImageDecodeError, match="paints over itself too often"):
            decode(many_scans(16, 32, 200))


@pytest.mark.parametrize(
    ("width", "height", "message", "most"),
    [
        (12_000, 12_000, "12000 x 12000 is more", 50),
        (1, MAX_SIDE + 1, f"1 x {MAX_SIDE + 1} is more", 50),
        (8_000, MAX_PIXELS // 8_000, "(128, 64, 3)", 700),
    ],
)
def test_a_bomb_costs_neither_memory_nor_time(width, height, message, most, tmp_path):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(decompression_bomb(width, height))
    assert bomb.stat().st_size < 100_000
    (outcome,), megabytes = decode_in_a_process(bomb)
    assert message in outcome
    assert megabytes < most


SIDES = {
    "JPEG": lambda width, height: struct.pack(">HH", height, width),
    "GIF": lambda width, height: struct.pack("<HH", width, height),
    "BMP": lambda width, height: struct.pack("<II", width, height),
    "TIFF": lambda width, height: struct.pack("<HHIIHHII", 256, 4, 1, width, 257, 4, 1, height),
    "WEBP": lambda width, height: b"".join(
        (side - 1).to_bytes(3, "little") for side in (width, height)
    ),
}


def test_a_header_of_a_vast_image_costs_nothing_in_any_format(tmp_path):
    for kind, sides in SIDES.items():
        more = {"save_all": True, "append_images": [two_coloured_image(77, 91, left=(0, 0, 0))]}
        small = encode_image(two_coloured_image(77, 91), kind, **(more if kind == "WEBP" else {}))
        assert sides(77, 91) in small
        (tmp_path / kind).write_bytes(small.replace(sides(77, 91), sides(9_000, 9_000), 1))
    outcomes, megabytes = decode_in_a_process(*(tmp_path / kind for kind in SIDES))
    for kind, outcome in zip(SIDES, outcomes, strict=True):
        assert "9000 x 9000 is more than" in outcome, kind
    assert megabytes < 50
