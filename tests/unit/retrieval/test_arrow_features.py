"""Features in Arrow columns and files."""

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from reidray.retrieval.array_inputs import InvalidRowError
from reidray.retrieval.arrow_features import open_files, to_matrix

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)


def column(kind):
    return pa.array(FEATURES.tolist(), kind)


@pytest.mark.parametrize(
    "array",
    [
        column(pa.list_(pa.float32(), 2)),
        column(pa.list_(pa.float32())),
        column(pa.large_list(pa.float16())),
        column(pa.list_(pa.float64())),
        pa.FixedShapeTensorArray.from_numpy_ndarray(FEATURES),
    ],
    ids=lambda array: str(array.type),
)
def test_lists_and_tensors_are_read_without_a_copy(array):
    part = array[1:5]
    matrix = to_matrix(part, 2)
    assert (matrix == FEATURES[1:5]).all()
    lists = array.storage if isinstance(array, pa.ExtensionArray) else array
    start = lists.values.buffers()[1].address + 2 * matrix.itemsize
    assert matrix.__array_interface__["data"][0] == start


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array(["a"]), "`gallery` column holds string: expected lists of 2 numbers"),
        (pa.array([["a", "b"]]), "`gallery` column holds list<item: string>: expected lists"),
        (pa.array([1.0]), "`gallery` column holds double"),
        (column(pa.list_(pa.float32(), 2)), "`gallery` row 0 has 2 values: expected the query's 3"),
    ],
)
def test_an_invalid_column_is_refused_with_its_type(array, message):
    with pytest.raises(ValueError, match=message):
        to_matrix(array, 3 if "3" in message else 2)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "`gallery` row 2 is null: expected 2 numbers"),
        ([1.0, None], "`gallery` row 2 holds a null: expected 2 numbers"),
    ],
)
def test_a_null_names_its_row(kind, row, message):
    array = pa.array([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], row], kind)[1:]
    with pytest.raises(InvalidRowError, match=message):
        to_matrix(array, 2)


def test_a_list_of_another_length_names_its_row():
    with pytest.raises(
        InvalidRowError, match="`gallery` row 1 has 3 values: expected the query's 2"
    ):
        to_matrix(pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]]), 2)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of files with two rows a piece, written in another order than their names."""
    table = pa.table({"name": list("abcdef"), "embedding": FEATURES.tolist()})
    (tmp_path / "b").mkdir()
    pq.write_table(table[4:], tmp_path / "b" / "late.parquet")
    pyarrow.feather.write_feather(table[:3], tmp_path / "a.feather", chunksize=2)
    pq.write_table(table[3:4], tmp_path / "a.parquet", row_group_size=2)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part").touch()
    return tmp_path


def rows_of(files):
    arrays = [part for file in files for part in file.read(range(file.pieces), rows=2)]
    return [row for array in arrays for row in array.to_pylist()]


@pytest.mark.parametrize("form", [str, lambda path: path, lambda path: path.as_uri()])
def test_files_of_a_folder_are_read_in_the_order_of_their_names(folder, form):
    files = open_files(form(folder), "embedding")
    assert [file.pieces for file in files] == [2, 1, 1]
    assert rows_of(files) == FEATURES.tolist()


def test_several_paths_are_read_in_the_given_order(folder):
    files = open_files([folder / "b", folder / "a.parquet"], "embedding")
    assert rows_of(files) == FEATURES[[4, 5, 3]].tolist()


def test_a_piece_is_read_alone(folder):
    [file] = open_files(folder / "a.feather", "embedding")
    assert [part.to_pylist() for part in file.read([1], rows=2)] == [FEATURES[2:3].tolist()]


def test_a_row_group_is_read_in_parts(tmp_path):
    pq.write_table(pa.table({"embedding": FEATURES.tolist()}), tmp_path / "one.parquet")
    [file] = open_files(tmp_path, "embedding")
    assert [len(part) for part in file.read([0], rows=20)] == [4, 2]


def damage(folder, name, contents):
    (folder / name).write_bytes(contents)
    return folder / name


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (lambda folder: folder / "none", "none does not exist: check the name"),
        (lambda _: [], "`gallery` holds no files"),
        (lambda folder: folder.joinpath("empty"), "`gallery` holds no files"),
        (
            lambda folder: damage(folder, "c.txt", b"name"),
            "c.txt is neither a Parquet nor an Arrow",
        ),
        (lambda folder: damage(folder, "c", b""), "c is neither a Parquet nor an Arrow IPC file"),
        (lambda folder: damage(folder, "c.parquet", b"PAR1" * 9), "c.parquet cannot be read"),
        (lambda folder: damage(folder, "c.arrow", b"ARROW1" * 9), "c.arrow cannot be read"),
        (
            lambda _: "nowhere://bucket/prefix",
            "`gallery` nowhere://bucket/prefix cannot be read",
        ),
    ],
)
def test_paths_without_features_are_refused_in_one_line(folder, paths, message):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        open_files(paths(folder), "embedding")
    assert "\n" not in str(caught.value)


def test_a_uri_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(ValueError, match="`gallery` URI holds a password") as caught:
        open_files("s3://me:secret@bucket/gallery", "embedding")
    assert "secret@" not in str(caught.value)


def test_a_missing_column_names_the_file_and_its_columns(folder):
    with pytest.raises(
        ValueError, match=r"a\.feather has no column 'features': expected one of .*name, embedding"
    ):
        open_files(folder, "features")


def test_a_file_damaged_after_it_was_opened_is_refused(folder):
    [file] = open_files(folder / "a.parquet", "embedding")
    damage(folder, "a.parquet", (folder / "a.parquet").read_bytes()[:99])
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read") as caught:
        rows_of([file])
    assert "\n" not in str(caught.value)
