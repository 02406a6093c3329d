"""The reasons in quarantine.csv are a file format: other programs count them, night by night."""

import csv

import numpy as np
from PIL import Image
from support.bad_files import put_bad_files

from reidray.data.images.decoding import decode_files
from reidray.inference.runs.quarantine import write_quarantine
from reidray.storage.location import Location

REASONS = {
    "black.tif": "pixels are floating-point numbers, and all are 0, so that nothing tells their "
    "scale",
    "bomb.png": "more than 64,000,000 pixels",
    "cut off.jpg": "broken image (Truncated File Read)",
    "dangling.jpg": "No such file or directory",
    "empty.jpg": "the file is empty",
    "folder.jpg": "Is a directory",
    "forbidden.jpg": "Permission denied",
    "large.jpg": "More than 512,000,000 bytes",
    "loop.jpg": "Too many levels of symbolic links",
    "outside folder.jpg": "a link that leaves the folder: see --follow-links",
    "outside.jpg": "a link that leaves the folder: see --follow-links",
    "packed bomb.png": "12000 x 12000 is more than 64,000,000 pixels, or than 65,535 in a row",
    "pipe.jpg": "Not a regular file",
    "scans.jpg": "a JPEG that paints over itself too often",
    "socket.jpg": "No such device or address",
    "text.jpg": "not an image of a known format",
}


def test_the_quarantine_keeps_the_reasons_of_earlier_releases(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere" / "secret.png")
    folder = tmp_path / "crops"
    folder.mkdir()
    names = sorted([*put_bad_files(folder, tmp_path / "elsewhere"), "black.tif"])
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "black.tif")
    bad = decode_files(Location(str(folder)), names, (32, 16)).bad
    rows = list(csv.reader(write_quarantine({"query": bad}).decode().splitlines()))
    assert rows[0] == ["file", "split", "reason"]
    assert [row[:2] for row in rows[1:]] == [[name, "query"] for name in names]
    assert {name: reason for name, _, reason in rows[1:]} == {name: REASONS[name] for name in names}
