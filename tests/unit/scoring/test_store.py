import hashlib
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.errors import UserError
from reidray.inference.image_batches import DIGEST_BYTES, contains_digest
from reidray.inference.predictions import PredictionShape
from reidray.retrieval import top_k
from reidray.retrieval.partitioned_search import top_k_from_parts
from reidray.scoring.store.embedding_store import (
    EmbeddingStore,
    find_known_files,
    open_parts,
    open_temporary_parts,
)
from reidray.scoring.store.part_file import IMAGES_SCHEMA
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location

SHAPE = PredictionShape(4, 3)


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


def images_of(*rows):
    return pa.Table.from_pylist(
        [dict(zip(IMAGES_SCHEMA.names, row, strict=True)) for row in rows], IMAGES_SCHEMA
    )


def append(store, numbers):
    """Append predictions that repeat the number of each content."""
    predictions = store.shape.empty(len(numbers))
    for values in vars(predictions).values():
        values[:] = np.array(numbers).reshape(-1, *[1] * (values.ndim - 1))
    images = [("/a", f"{number}.jpg", "s", digest(number), None) for number in numbers]
    store.append(images_of(*images), predictions)


def open_s3(folder, model="m", shape=SHAPE, **asked):
    return EmbeddingStore(PartFolder(Location(str(folder))), model, shape, **asked)


def rows_of(store, numbers):
    return store.find_rows(pa.array([digest(n) for n in numbers], pa.binary(DIGEST_BYTES)))


@given(
    st.lists(st.lists(st.integers(0, 50), unique=True, max_size=5), max_size=4),
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(0, 3),
)
def test_what_was_kept_is_found_by_its_content_in_this_run_and_in_the_next(
    tmp_path_factory, runs, asked, attributes
):
    folder = tmp_path_factory.mktemp("store")
    store = open_s3(folder, shape=PredictionShape(4, attributes))
    for numbers in runs:
        append(store, numbers)
    kept = {number for numbers in runs for number in numbers}
    for opened in (store, open_s3(folder, shape=store.shape)):
        rows = rows_of(opened, asked)
        assert [row >= 0 for row in rows] == [number in kept for number in asked]
        there = np.array([number for number in asked if number in kept])
        seen = []
        for places, predictions in opened.read_rows(rows[rows >= 0]):
            assert sorted(places) == list(places)
            seen += list(places)
            for name, values in vars(predictions).items():
                assert values.shape[1:] == getattr(store.shape.empty(0), name).shape[1:]
                assert (there[places] == values.T).all()
        assert sorted(seen) == list(range(len(there)))


def test_a_store_keeps_models_apart_and_replaces_the_embeddings_of_one(tmp_path):
    append(open_s3(tmp_path, "one"), [1, 2])
    append(open_s3(tmp_path, "other"), [2])
    assert list(rows_of(open_s3(tmp_path, "other"), [1, 2])) == [-1, 0]
    replacing = open_s3(tmp_path, "one", replace_existing=True)
    assert list(rows_of(replacing, [1])) == [-1]
    append(replacing, [2, 3])
    replacing.remove_replaced()
    assert list(rows_of(open_s3(tmp_path, "one"), [1, 2, 3])) == [-1, 0, 1]
    seen = open_s3(tmp_path, "one", folders=["/a"]).images_in("/a")
    assert seen["path"].to_pylist() == ["2.jpg", "3.jpg", "2.jpg", "2.jpg"]  # 1 is in no model


def test_the_store_of_one_run_holds_what_was_kept_and_no_name_of_a_file_appears(tmp_path):
    with open_temporary_parts(tmp_path) as parts:
        store = EmbeddingStore(parts, "m", SHAPE)
        append(store, [1, 2])
        append(store, [3])
        found = dict.fromkeys(range(3))
        for places, predictions in store.read_rows(rows_of(store, [3, 1, 2])):
            found |= dict(zip(places.tolist(), predictions.uncertainty.tolist(), strict=True))
        assert found == {0: 3, 1: 1, 2: 2}
        assert not list(tmp_path.iterdir())


def test_what_a_store_keeps_is_read_by_its_owner_alone(tmp_path):
    with open_parts(str(tmp_path / "new" / "store")) as parts:
        append(EmbeddingStore(parts, "m", SHAPE), [1])
    store = tmp_path / "new" / "store"
    modes = {path: path.stat().st_mode & 0o777 for path in (store, *store.rglob("*"))}
    assert {0o700 if path.is_dir() else 0o600 for path in modes} == set(modes.values())
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())
    assert len(modes) == 3


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_a_writer_that_stood_still_writes_nothing_once_another_has(place, tmp_path, request):
    uri = tmp_path / "store"
    if place == "bucket":
        uri = f"{request.getfixturevalue('bucket')}/store"
    late, next_one = open_s3(uri), open_s3(uri)
    append(next_one, [1])
    before = Location(str(uri)).list_files()
    with pytest.raises(UserError, match="another run began to write it"):
        append(late, [2])
    assert Location(str(uri)).list_files() == before
    assert list(rows_of(open_s3(uri), [1, 2])) == [0, -1]


def test_a_part_is_kept_though_the_answer_to_its_writing_is_lost(bucket, unreliable):
    unreliable.lost = (".parquet",)
    store = open_s3(f"{bucket}/store")
    append(store, [1])
    append(store, [2])
    assert unreliable.met["lost"] == 2
    assert list(rows_of(open_s3(f"{bucket}/store"), [1, 2])) == [0, 1]


def test_a_part_that_changed_since_a_store_was_opened_is_not_read(tmp_path):
    store = open_s3(tmp_path)
    append(store, [1, 2])
    append(store, [3])
    log = PartFolder(Location(str(tmp_path)))
    first, _ = log.find()
    data = (tmp_path / "parts" / "00000002.parquet").read_bytes()
    for changed in (data, b""):
        log.replace(first, changed)
        with pytest.raises(UserError, match="another run began to write it"):
            list(store.read_rows(np.array([0, 1])))


def test_a_part_that_a_bucket_does_not_give_is_not_taken_for_a_damaged_one(bucket, unreliable):
    append(open_s3(f"{bucket}/store"), [1])
    unreliable.denied = (".parquet",)
    with pytest.raises(PermissionError):
        open_s3(f"{bucket}/store")


def test_a_damaged_part_is_named_with_what_to_do(tmp_path):
    append(open_s3(tmp_path), [1])
    (part,) = tmp_path.rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"{part.name}: is not a part of a store.*remove it"):
        open_s3(tmp_path)


@pytest.mark.parametrize("described", ["", "{}", '{"model": "m", "day": "2026-01-01"}', "[" * 9999])
def test_a_table_of_others_in_the_place_of_a_part_is_named(tmp_path, described):
    append(open_s3(tmp_path), [1])
    (part,) = tmp_path.rglob("*.parquet")
    table = pa.table({"a": [1]}).replace_schema_metadata({"reidray": described})
    pq.write_table(table, part)
    with pytest.raises(UserError, match=rf"{part.name}: is not a part of a store.*remove it"):
        open_s3(tmp_path)


@given(st.lists(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), max_size=20), st.data())
def test_a_content_is_known_among_others_whatever_bytes_it_ends_with(digests, data):
    digests += [bytes(DIGEST_BYTES), b"\1" + bytes(DIGEST_BYTES - 1)]
    known = np.sort(np.array(digests, dtype=f"S{DIGEST_BYTES}"))
    other = data.draw(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))
    assert all(contains_digest(known, digest) for digest in digests)
    assert contains_digest(known, other) == (other in digests)


def see(store, *rows):
    store.append(images_of(*rows), store.shape.empty(0))


def test_a_file_is_known_by_folder_name_and_stamp_as_it_was_seen_last(tmp_path):
    store = open_s3(tmp_path)
    see(store, ("/a", "x.jpg", "s1", digest(1), None), ("/a", "y.jpg", "", digest(2), None))
    see(store, ("/a", "x.jpg", "s2", digest(3), None), ("/b", "x.jpg", "s1", digest(4), "torn"))

    def contents(folder, path, stamp):
        seen = open_s3(tmp_path, folders=[folder]).images_in(folder)
        found = find_known_files(seen, pa.array([path]), pa.array([stamp]))
        return found.digests.to_pylist()[0], found.reasons.to_pylist()[0]

    assert contents("/a", "x.jpg", "s2") == (digest(3), None)
    assert contents("/a", "x.jpg", "s1") == (None, None)
    assert contents("/a", "y.jpg", "") == (None, None)
    assert contents("/b", "x.jpg", "s1") == (digest(4), "torn")
    assert contents("/a", "new.jpg", "s1") == (None, None)


def test_a_stamp_changes_with_the_contents_even_where_size_and_times_are_put_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)
    file = tmp_path / "x.jpg"
    file.write_bytes(b"one")
    location = Location(str(tmp_path))
    before, again = location.read_stamps(["x.jpg"]), location.read_stamps(["x.jpg"])
    assert before == again != [""]
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert location.read_stamps(["x.jpg", "gone.jpg"])[1] == ""
    assert location.read_stamps(["x.jpg"]) != before


def test_a_file_changed_within_the_last_seconds_has_no_stamp(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"one")
    assert Location(str(tmp_path)).read_stamps(["x.jpg"]) == [""]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32), st.data())
def test_a_gallery_in_parts_is_ranked_as_the_whole_bit_by_bit(images, k, seed, data):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (5, images))
    owner = np.array(data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images)))
    places = [np.flatnonzero(owner == part) for part in range(4)]
    parts = [(place, gallery[place]) for place in places if len(place)]
    for max_distance in (None, 2.0):
        whole = top_k(query, gallery, k, max_distance=max_distance)
        for one, other in zip(
            whole, top_k_from_parts(query, parts, k, max_distance=max_distance), strict=True
        ):
            np.testing.assert_array_equal(one, other)
