"""A folder of Parquet files is one manifest, read by columns."""

import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from support.tiny_images import write_images

from reidray.data.images.decoding import decode_files
from reidray.data.layouts import check_layout, read_manifest
from reidray.errors import UserError

ROWS = {
    "path": ["b.jpg", "a.jpg", "c.jpg", "d.jpg"],
    "split": ["train", "train", "train", "query"],
    "person": [7, 7, 8, 9],
    "camera": [1, 2, 1, None],
    "attr_hat": ["no", "yes", None, "no"],
}


def write_shards(folder, table, *, rows=2, **more):
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, table.num_rows, rows)):
        papq.write_table(table.slice(start, rows), folder / f"part-{number}.parquet", **more)
    (folder / "_SUCCESS").touch()
    return str(folder)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string()])
def test_shards_are_the_manifest_of_all_their_rows(tmp_path, text):
    write_images(tmp_path / "whole", ROWS["path"])
    table = pa.table(ROWS)
    for name in ("path", "split"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(text))
    papq.write_table(table, tmp_path / "whole" / "manifest.parquet")
    whole = read_manifest(str(tmp_path / "whole"))
    folder = write_shards(tmp_path / "people.parquet", table)
    check_layout(folder)
    shards = read_manifest(folder)
    assert shards.table.equals(whole.table)
    assert (shards.fingerprint, shards.layout) == (whole.fingerprint, "manifest")
    assert shards.root == folder
    assert shards.table["path"].type == pa.large_string()


def test_the_images_of_shards_are_not_listed_unless_it_is_strict(tmp_path):
    images = write_images(tmp_path / "images", ["b.jpg", "a.jpg", "c.jpg"])
    folder = write_shards(tmp_path / "shards", pa.table(ROWS))
    manifest = read_manifest(folder, root=str(images))
    assert manifest.table["path"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    paths = manifest.table["path"].to_pylist()
    assert [bad.path for bad in decode_files(manifest.location, paths, (16, 8)).bad] == ["d.jpg"]
    with pytest.raises(UserError, match=r"listed images that are not there: 1 .*'d\.jpg'"):
        read_manifest(folder, root=str(images), strict=True)


def test_the_root_of_shards_is_named_by_their_metadata(tmp_path):
    write_images(tmp_path / "images", ["a.jpg"])
    table = pa.table({**ROWS, "path": [f"{tmp_path}/images/{name}" for name in ROWS["path"]]})
    folder = write_shards(tmp_path / "shards", table.replace_schema_metadata({"root": "../images"}))
    manifest = read_manifest(folder)
    assert manifest.root == str(tmp_path / "images")
    assert manifest.table["path"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    other = table.slice(2).replace_schema_metadata({"root": "."})
    papq.write_table(other, tmp_path / "shards" / "part-1.parquet")
    with pytest.raises(UserError, match=r"shards/part-1\.parquet: its metadata name another root"):
        read_manifest(folder)


def test_shards_that_do_not_go_together_are_refused_by_name(tmp_path):
    folder = tmp_path / "shards"
    table = pa.table(ROWS)

    def refused(shard, message):
        write_shards(folder, table)
        papq.write_table(shard, folder / "part-1.parquet")
        with pytest.raises(UserError, match=message) as caught:
            read_manifest(str(folder))
        assert "\n" not in str(caught.value)

    refused(table.drop_columns(["camera"]), r"shards/part-1\.parquet: has the columns path, split")
    refused(table.drop_columns(["split"]), r"part-1\.parquet: columns missing: split")
    blobs = table.set_column(2, "person", pa.array([b"x"] * 4))
    refused(blobs, r"part-1\.parquet: column 'person' holds binary")
    refused(table, r"row 1 \('b\.jpg'\)|row 3 \('b\.jpg'\): the path is in row 1 already; keep one")
    write_shards(folder, table)
    (folder / "part-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"shards/part-1\.parquet: cannot be read as a table"):
        read_manifest(str(folder))


def test_columns_that_are_no_part_of_a_manifest_are_noted_and_names_are_numbered(tmp_path):
    table = pa.table({**ROWS, "person": ["ben", "ben", "anna", "7"], "hash": [b"1"] * 4})
    manifest = read_manifest(write_shards(tmp_path / "shards", table))
    assert "shards: column 'hash' is not a column of a manifest, skipped" in manifest.notes
    assert manifest.table["person"].to_pylist() == [3, 3, 2, 1]
    assert manifest.person_ids == {"7": 1, "anna": 2, "ben": 3}


def test_a_folder_with_other_files_or_other_columns_is_no_manifest(tmp_path):
    folder = tmp_path / "shards"
    write_shards(folder, pa.table(ROWS))
    write_images(folder, ["a.jpg"])
    with pytest.raises(UserError, match="no layout recognised"):
        read_manifest(str(folder))
    papq.write_table(pa.table({"path": ["a.jpg"]}), tmp_path / "other.parquet")
    other = write_shards(tmp_path / "features", pa.table({"path": ["a.jpg"], "x": [1]}))
    with pytest.raises(UserError, match="no layout recognised"):
        read_manifest(other)
