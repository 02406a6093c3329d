"""Prove that a full disk is named, and that the file that did not fit leaves nothing."""

import re

import pytest
from support.full_disk import MAX_BYTES, full_disk

from reidray.storage.location import Location
from reidray.storage.locks import exclusive_files


def create(folder):
    return exclusive_files.create(Location(str(folder)), "parts/1.parquet", bytes(2 * MAX_BYTES))


def replace(folder):
    return exclusive_files.replace(
        Location(str(folder)), "parts/1.parquet", bytes(2 * MAX_BYTES), ""
    )


def write(folder):
    return Location(str(folder)).write_bytes("parts/1.parquet", bytes(2 * MAX_BYTES))


@pytest.mark.parametrize("action", [create, replace, write])
def test_a_file_that_does_not_fit_is_named_and_leaves_nothing(tmp_path, action):
    (tmp_path / "parts").mkdir()
    named = re.escape(str(tmp_path / "parts" / "1.parquet"))
    with full_disk(), pytest.raises(OSError, match=named):
        action(tmp_path)
    assert not list((tmp_path / "parts").iterdir())
    assert action(tmp_path) is not None or action is write
    assert [file.name for file in (tmp_path / "parts").iterdir()] == ["1.parquet"]
