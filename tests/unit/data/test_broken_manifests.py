import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from support.tiny_images import write_images

from reidray.data.layouts import read_manifest
from reidray.errors import UserError

NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 5], np.int32)), pa.py_buffer(b"a\xff.jp")]
)


def test_a_file_beside_the_images_whose_name_is_not_utf8_does_no_harm(tmp_path):
    write_images(tmp_path, ["a.jpg", os.fsdecode(b"caf\xe9.jpg")])
    (tmp_path / "manifest.csv").write_text("path,split\na.jpg,train\n")
    assert read_manifest(str(tmp_path)).table["path"].to_pylist() == ["a.jpg"]


def refused(file):
    with pytest.raises(UserError) as caught:
        read_manifest(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"pa\xffth,split\na.jpg,train\n", "cannot be read as a table"),
        (b"path,split\na\xff.jpg,train\n", "cannot be read as a table"),
        (b"path,split\na.jpg,train,1\n", "Expected 2 columns, got 3"),
        (b"path,sp\0lit\na.jpg,train\n", r"missing: split; found 'path', 'sp\x00lit'"),
        (b"", "cannot be read as a table"),
    ],
)
def test_a_broken_csv_is_refused_in_one_line(data, message, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(data)
    assert message in refused(tmp_path / "manifest.csv")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (NOT_UTF8, "cannot be read as a table"),
        (pa.array([["a.jpg"]]), "column 'path' holds"),
        (pa.array([b"a\xff.jpg"]), "column 'path' holds"),
        (pa.array([{"name": "a.jpg"}]), "column 'path' holds"),
    ],
)
def test_a_parquet_file_whose_paths_are_no_text_is_refused_in_one_line(path, message, tmp_path):
    write_images(tmp_path, ["a.jpg"])
    papq.write_table(pa.table({"path": path, "split": ["train"]}), tmp_path / "manifest.parquet")
    assert message in refused(tmp_path / "manifest.parquet")
