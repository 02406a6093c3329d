"""The rows of a large manifest lie in a temporary file, and are those of a table in memory."""

import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data import stored_rows
from reidray.data.crop_labels import CropLabels
from reidray.data.joined_manifests import join_manifests
from reidray.data.layouts import read_manifest
from reidray.data.split import split_by_person
from reidray.data.stored_rows import keep_rows, reorder_rows, store_rows
from reidray.errors import MachineError

ROWS = 1000
MEMORY_SCRIPT = """
import sys, pyarrow as pa
from reidray.data import stored_rows
stored_rows.IN_MEMORY_BYTES, stored_rows.ROWS_AT_ONCE = 2**20, 2**12
from reidray.data.layouts import read_manifest
from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.split import split_by_person
manifest = split_by_person(read_manifest(sys.argv[1]))
manifest.fingerprint, CompressedPaths.from_column(manifest.table["path"])
print(manifest.table["path"].nbytes, pa.default_memory_pool().max_memory())
"""


def use_files(monkeypatch):
    """Keep tables of any size in files, which are written a few rows at a time."""
    monkeypatch.setattr(stored_rows, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(stored_rows, "ROWS_AT_ONCE", 64)


def write_shards(folder, *, rows=ROWS, shards=7, path="crops/{0:05}/{1:05}.jpg"):
    """Write shards of sorted paths, with junk and people of unknown cameras among them."""
    folder.mkdir()
    numbers = np.arange(rows)
    table = pa.table(
        {
            "path": [path.format(number // 9, number) for number in numbers.tolist()],
            "split": np.where(numbers % 9 == 8, "gallery", "train"),
            "person": np.where(numbers % 50 == 3, -1, numbers // 9 + 1).astype(np.int32),
            "camera": pa.array(numbers % 6, mask=numbers % 100 == 0),
        }
    )
    for number, part in enumerate(np.array_split(numbers, shards)):
        papq.write_table(table.take(part), folder / f"{number:02}.parquet")
    return str(folder)


def test_a_table_in_a_file_is_the_one_in_memory(monkeypatch):
    use_files(monkeypatch)
    table = pa.table(
        {"path": pa.array(["a", "b", None, "é"], pa.large_string()), "n": [4, 3, 2, 1]}
    )
    before = pa.total_allocated_bytes()
    stored = store_rows(iter(table.to_batches(max_chunksize=3)), table.schema)
    assert stored.equals(table)
    assert pa.total_allocated_bytes() - before < table.nbytes
    keep = pa.chunked_array([[True], [False, None, True]])
    assert keep_rows(stored, keep)["n"].to_pylist() == [4, 1]
    assert keep_rows(stored, pa.chunked_array([[True] * 4])) is stored
    assert reorder_rows(stored, np.array([3, 0, 1, 2])).equals(table.take([3, 0, 1, 2]))
    assert keep_rows(stored, pa.chunked_array([[False] * 4])).equals(table[:0])


@pytest.mark.parametrize(
    "name",
    [
        "crops/{0:05}/{1:05}.jpg",
        "crops/{0}/{1}.jpg",
        "./crops/{0:05}//{1:05}.jpg",
        "FOLDER/b/{0:05}/{1:05}.jpg",
        "../b/{0:05}/{1:05}.jpg",
    ],
    ids=["sorted", "unsorted", "odd", "absolute", "climbing"],
)
def test_a_large_manifest_has_the_rows_the_split_and_the_fingerprint_of_a_small_one(
    tmp_path, monkeypatch, name
):
    name = name.replace("FOLDER", str(tmp_path))
    folder, other = write_shards(tmp_path / "b", path=name), write_shards(tmp_path / "b-2", rows=50)

    def read():
        manifest = read_manifest(folder)
        joined = join_manifests({"b": manifest, "b-2": read_manifest(other)})
        return [manifest, joined, split_by_person(manifest), split_by_person(joined)]

    small = read()
    use_files(monkeypatch)
    for large, expected in zip(read(), small, strict=True):
        assert large.table.to_pylist() == expected.table.to_pylist()
        assert large.table.schema == expected.table.schema
        paths = large.table["path"].to_pylist()
        assert paths == sorted(paths)
        assert (large.fingerprint, large.summary) == (expected.fingerprint, expected.summary)
        labels = [CropLabels.from_manifest(each, "val") for each in (large, expected)]
        assert labels[0].indices.tolist() == labels[1].indices.tolist()
    assert small[2].split("val").num_rows > 200


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_the_kept_rows_are_those_of_the_mask(mask):
    table = pa.table({"n": np.arange(len(mask))})
    kept = keep_rows(table, pa.chunked_array([mask]))
    assert kept["n"].to_pylist() == np.flatnonzero(mask).tolist()


def test_a_disk_without_room_ends_in_one_line(tmp_path, monkeypatch):
    use_files(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    table = pa.table({"n": [1, 2]})
    with pytest.raises(MachineError, match=r"missing cannot be written .*: make room, or name"):
        store_rows(table.to_batches(), table.schema)


def test_the_memory_of_a_large_manifest_does_not_grow_with_its_paths(tmp_path):
    """Split, labels and numbers take 40 bytes a row; paths of 500 bytes take none."""
    folder = write_shards(
        tmp_path / "shards", rows=40_000, shards=20, path="{0:05}" + "x" * 480 + "/{1:06}.jpg"
    )
    command = [sys.executable, "-c", MEMORY_SCRIPT, folder]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths, peak = map(int, printed.split())
    assert paths > 19_000_000
    assert peak < 10_000_000
