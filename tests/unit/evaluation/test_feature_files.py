import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from support.feature_sets import write_features

from reidray.errors import UserError
from reidray.evaluation.feature_files import read_features

EMBEDDING = np.arange(12, dtype=np.float32).reshape(3, 4)
NAMES = ["in/0002_c1s1_000451_03.jpg", "0007_c3_016620005.jpg", "-1_c2s1_000401_03.jpg"]
PERSON, CAMERA = np.array([2, 7, -1]), np.array([1, 3, 2])


def read_one(file):
    return read_features(file, file).query


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".NPZ"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_every_kind_are_read_as_they_were(tmp_path, suffix, dtype):
    values = {"embedding": EMBEDDING.astype(dtype), "person": PERSON, "camera": CAMERA}
    path = tmp_path / f"f{suffix}"
    if suffix == ".NPZ":
        with path.open("wb") as file:
            np.savez_compressed(file, **values, path=NAMES)
    else:
        write_features(path, **values, path=np.array(NAMES))
    found = read_one(str(path))
    assert found.embeddings.dtype == dtype
    np.testing.assert_array_equal(found.embeddings, values["embedding"])
    assert found.labels.person_ids.tolist() == PERSON.tolist()
    assert found.labels.camera_ids.tolist() == CAMERA.tolist()
    assert found.labels.names == tuple(NAMES)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 4), pa.large_list(pa.float32())])
def test_parquet_lists_of_every_kind_in_several_row_groups(tmp_path, kind):
    table = pa.table({"embedding": pa.array(EMBEDDING.tolist(), kind), "person": PERSON})
    papq.write_table(table, tmp_path / "f.parquet", row_group_size=2)
    found = read_one(str(tmp_path / "f.parquet"))
    np.testing.assert_array_equal(found.embeddings, EMBEDDING)
    assert (found.labels.camera_ids, found.labels.names) == (None, None)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_names_tell_person_and_camera_where_nothing_else_does(tmp_path, suffix):
    file = write_features(tmp_path / f"f{suffix}", EMBEDDING, path=NAMES)
    labels = read_one(file).labels
    assert labels.person_ids.tolist() == PERSON.tolist()
    assert labels.camera_ids.tolist() == CAMERA.tolist()


def test_what_the_file_says_goes_before_what_names_tell(tmp_path):
    file = write_features(tmp_path / "f.npz", EMBEDDING, person=PERSON + 10, path=NAMES)
    labels = read_one(file).labels
    assert labels.person_ids.tolist() == [12, 17, 9]
    assert labels.camera_ids is None


def test_a_camera_that_is_not_known_of_every_image_is_not_known(tmp_path):
    cameras = pa.array([1, None, 2])
    file = write_features(tmp_path / "f.parquet", EMBEDDING, person=PERSON, camera=cameras)
    assert read_one(file).labels.camera_ids is None


def test_whole_numbers_may_be_floats(tmp_path):
    columns = {"person": PERSON.astype(np.float64), "camera": CAMERA.astype(np.float32)}
    labels = read_one(write_features(tmp_path / "f.npz", EMBEDDING, **columns)).labels
    assert (labels.person_ids.tolist(), labels.person_ids.dtype) == ([2, 7, -1], np.int64)
    assert labels.camera_ids.tolist() == CAMERA.tolist()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_people_whom_a_float_of_32_bits_merges_are_refused(tmp_path, suffix):
    person = np.array([2**24, 2**24 + 1, 7], np.float32)
    file = write_features(tmp_path / f"f{suffix}", EMBEDDING, person=person)
    with pytest.raises(UserError, match=r"row 1: person is 16777216.0, which is no whole number"):
        read_one(file)


@pytest.mark.parametrize("person", [[[2], [7], [-1]], [{"id": 2}, {"id": 7}, {"id": -1}]])
def test_people_who_are_lists_or_objects_are_refused(tmp_path, person):
    file = write_features(tmp_path / "f.parquet", EMBEDDING, person=pa.array(person))
    with pytest.raises(UserError, match=r"row 1: person is .*, expected a whole number or a name"):
        read_one(file)


RAGGED = [[1.0, 2.0], [1.0, 2.0, 3.0], [1.0]]
EMPTY = pa.array([], pa.list_(pa.float32()))
OBJECTS = np.array([[1.0], [2.0, 3.0], None], dtype=object)


@pytest.mark.parametrize(
    ("file", "columns", "named"),
    [
        ("f.npz", {"embeddings": EMBEDDING, "person": PERSON}, "no embedding; found 'embeddings'"),
        ("f.parquet", {"label": PERSON}, "no embedding; found 'label'"),
        ("f.npz", {"embedding": EMBEDDING}, "neither person nor path.*'embedding'"),
        ("f.npz", {"embedding": OBJECTS, "person": PERSON}, "embedding cannot be read"),
        ("f.npz", {"embedding": EMBEDDING, "path": OBJECTS}, "path cannot be read"),
        ("f.npz", {"embedding": EMBEDDING, "person": PERSON[:2]}, r"person has shape \(2,\).*3"),
        ("f.npz", {"embedding": EMBEDDING[0], "person": PERSON}, r"embedding is .* \(4,\)"),
        ("f.npz", {"embedding": EMBEDDING + 1j, "person": PERSON}, "complex64"),
        ("f.npz", {"embedding": EMBEDDING, "person": PERSON + 0.5}, "row 1: person is 2.5"),
        ("f.npz", {"embedding": EMBEDDING, "person": [1.0, np.inf, 2.0]}, "row 2: person is inf"),
        ("f.npz", {"embedding": EMBEDDING, "person": ["a", "NA", "c"]}, "row 2: person is 'NA'"),
        ("f.npz", {"embedding": EMBEDDING, "path": PERSON}, "path is int64"),
        ("f.npz", {"embedding": EMBEDDING, "path": ["000000.jpg"] * 3}, "'000000.jpg' holds no"),
        ("f.parquet", {"embedding": RAGGED, "person": PERSON}, "different lengths, 2 and 3"),
        ("f.parquet", {"embedding": [[1.0], None, [2.0]], "person": PERSON}, "lengths, 1 and 0"),
        ("f.parquet", {"embedding": PERSON, "person": PERSON}, "embedding is int64"),
        ("f.parquet", {"embedding": [["a"]] * 3, "person": PERSON}, "embedding is object"),
        (
            "f.parquet",
            {"embedding": RAGGED[:1] * 3, "person": [1, None, 2]},
            "row 2: person is nan",
        ),
        ("f.npz", {"embedding": EMBEDDING[:0], "person": PERSON[:0]}, r"shape \(0, 4\)"),
        ("f.parquet", {"embedding": EMPTY, "person": PERSON[:0]}, r"shape \(0, 0\)"),
    ],
)
def test_what_a_file_lacks_or_has_wrong_is_one_line_that_names_it(tmp_path, file, columns, named):
    path = tmp_path / file
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        papq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=named) as caught:
        read_one(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_damaged_file_is_one_line(tmp_path, suffix):
    whole = write_features(tmp_path / f"whole{suffix}", EMBEDDING, person=PERSON)
    data = (tmp_path / f"whole{suffix}").read_bytes()
    assert len(read_one(whole).embeddings) == 3
    damages = [b"", b"not features", data[:-20], data[:50]]
    if suffix == ".npz":
        damages.append(data.replace(EMBEDDING.tobytes(), bytes(EMBEDDING.nbytes)))
    for number, damaged in enumerate(damages):
        path = tmp_path / f"damaged{number}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"damaged{number}") as caught:
            read_one(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "named"),
    [("nowhere.npz", "no such file"), ("f.pt", ".npz or .parquet"), ("folder.npz", "no such file")],
)
def test_a_file_that_is_not_there_or_of_another_kind_is_named(tmp_path, file, named):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "f.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match=named) as caught:
        read_one(str(tmp_path / file))
    assert file in str(caught.value)


class Bomb:
    """Create a file when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (self.mark.touch, ())


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "unpickled"
    bombs = np.array([Bomb(mark)], dtype=object)
    np.savez(tmp_path / "f.npz", embedding=bombs, person=[1], other=bombs)
    with pytest.raises(UserError):
        read_one(str(tmp_path / "f.npz"))
    assert not mark.exists()
    np.savez(tmp_path / "f.npz", embedding=EMBEDDING[:1], person=[1], other=bombs)
    assert read_one(str(tmp_path / "f.npz")).labels.person_ids.tolist() == [1]
    assert not mark.exists()


NAMED = ["anna", "20231105123456789011", "1_2"]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_people_with_names_have_the_same_numbers_in_all_files(tmp_path, suffix):
    first = write_features(tmp_path / f"q{suffix}", EMBEDDING, person=NAMED)
    second = write_features(tmp_path / f"g{suffix}", EMBEDDING[:2], person=["zoe", "anna"])
    found = read_features(first, second)
    query, gallery = (each.labels.person_ids.tolist() for each in (found.query, found.gallery))
    assert query[0] == gallery[1]
    assert len({*query, *gallery}) == 4
    assert found.person_ids["anna"] == query[0]
    assert set(found.person_ids) == {*NAMED, "zoe"}


def test_numbers_and_texts_of_numbers_are_the_same_people(tmp_path):
    first = write_features(tmp_path / "q.npz", EMBEDDING, person=PERSON)
    second = write_features(tmp_path / "g.npz", EMBEDDING, person=["2", "7.0", "-1"])
    found = read_features(first, second)
    assert found.query.labels.person_ids.tolist() == found.gallery.labels.person_ids.tolist()
    assert found.person_ids == {}


def test_numbers_that_an_int64_cannot_hold_are_names(tmp_path):
    people = np.array([2**64 - 1, 2**64 - 2, 3], np.uint64)
    labels = read_one(write_features(tmp_path / "f.npz", EMBEDDING, person=people)).labels
    assert sorted(labels.person_ids.tolist()) == [1, 2, 3]


def test_names_of_files_may_tell_names_of_people_and_cameras_of_any_length(tmp_path):
    names = ["anna_c20231105123456789011_1.jpg", "ben_c1_1.jpg", "1_1_c1_2.jpg"]
    file = write_features(tmp_path / "f.npz", EMBEDDING, path=names)
    found = read_features(file, file)
    assert len(set(found.query.labels.person_ids.tolist())) == 3
    assert found.camera_ids == {"1": 1, "20231105123456789011": 2}
