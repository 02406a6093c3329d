import hashlib
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.storage import Location
from reidray.errors import UserError
from reidray.retrieval import top_k
from reidray.retrieval.search import top_k_of_parts
from reidray.scoring.digests import HASH_BYTES, known_among
from reidray.scoring.predictions import Shape
from reidray.scoring.store import (
    EmbeddingStore,
    find_images,
    images_table,
    read_images,
)

SHAPE = Shape(4, 3)


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


def append(store, numbers):
    """Keep what a model makes of some contents, which tells which they are."""
    predictions = store.shape.empty(len(numbers))
    for values in vars(predictions).values():
        values[:] = np.array(numbers).reshape(-1, *[1] * (values.ndim - 1))
    store.append([digest(number) for number in numbers], predictions)


def rows_of(store, numbers):
    return store.rows_of(pa.array([digest(n) for n in numbers], pa.binary(HASH_BYTES)))


@given(
    st.lists(st.lists(st.integers(0, 50), unique=True, max_size=5), max_size=4),
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(0, 3),
)
def test_what_was_kept_is_found_by_its_content_in_this_run_and_in_the_next(
    tmp_path_factory, nights, asked, attributes
):
    folder = tmp_path_factory.mktemp("store")
    store = EmbeddingStore(Location(str(folder)), "m", Shape(4, attributes))
    for numbers in nights:
        append(store, numbers)
    kept = {number for numbers in nights for number in numbers}
    for opened in (store, EmbeddingStore(Location(str(folder)), "m", store.shape)):
        rows = rows_of(opened, asked)
        assert [row >= 0 for row in rows] == [number in kept for number in asked]
        there = np.array([number for number in asked if number in kept])
        seen = []
        for places, predictions in opened.gather(rows[rows >= 0]):
            assert sorted(places) == list(places)
            seen += list(places)
            for name, values in vars(predictions).items():
                assert values.shape[1:] == getattr(store.shape.empty(0), name).shape[1:]
                assert (there[places] == values.T).all()
        assert sorted(seen) == list(range(len(there)))


def test_a_store_keeps_the_models_apart_and_one_opened_anew_begins_empty(tmp_path):
    location = Location(str(tmp_path))
    append(EmbeddingStore(location, "one", SHAPE), [1, 2])
    assert list(rows_of(EmbeddingStore(location, "other", SHAPE), [1])) == [-1]
    anew = EmbeddingStore(location, "one", SHAPE, anew=True)
    assert list(rows_of(anew, [1])) == [-1]
    append(anew, [2, 3])
    anew.forget_earlier()
    assert list(rows_of(EmbeddingStore(location, "one", SHAPE), [1, 2, 3])) == [-1, 0, 1]


def test_a_part_that_a_bucket_does_not_give_is_not_taken_for_a_damaged_one(bucket, unreliable):
    table = images_table(Location(f"{bucket}/store"))
    part = table.append(table.schema.empty_table())
    unreliable.denied = (part.rpartition("/")[2],)
    with pytest.raises(PermissionError):
        table.read(part)


def test_a_damaged_part_is_named_with_what_to_do(tmp_path):
    append(EmbeddingStore(Location(str(tmp_path)), "m", SHAPE), [1])
    (part,) = tmp_path.rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"{part.name}: is not a part of a store.*remove it"):
        EmbeddingStore(Location(str(tmp_path)), "m", SHAPE)


@given(st.lists(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES), max_size=20), st.data())
def test_a_content_is_known_among_others_whatever_bytes_it_ends_with(digests, data):
    digests += [bytes(HASH_BYTES), b"\1" + bytes(HASH_BYTES - 1)]
    known = known_among(np.sort(np.array(digests, dtype=f"S{HASH_BYTES}")))
    other = data.draw(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES))
    assert all(map(known, digests))
    assert known(other) == (other in digests)


def see(table, *rows):
    rows = [dict(zip(table.schema.names, row, strict=True)) for row in rows]
    table.append(pa.Table.from_pylist(rows, schema=table.schema))


def test_a_file_is_known_by_folder_name_and_stamp_as_it_was_seen_last(tmp_path):
    table = images_table(Location(str(tmp_path)))
    see(table, ("/a", "x.jpg", "s1", digest(1), None), ("/a", "y.jpg", "", digest(2), None))
    see(table, ("/a", "x.jpg", "s2", digest(3), None), ("/b", "x.jpg", "s1", digest(4), "torn"))

    def contents(folder, path, stamp):
        found = find_images(
            read_images(table, [folder])[folder], pa.array([path]), pa.array([stamp])
        )
        return found.contents.to_pylist()[0], found.reasons.to_pylist()[0]

    assert contents("/a", "x.jpg", "s2") == (digest(3), None)
    assert contents("/a", "x.jpg", "s1") == (None, None)
    assert contents("/a", "y.jpg", "") == (None, None)
    assert contents("/b", "x.jpg", "s1") == (digest(4), "torn")
    assert contents("/a", "new.jpg", "s1") == (None, None)


def test_a_stamp_changes_with_the_contents_even_where_size_and_times_are_put_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("reidray.data.storage.FRESH_NS", 0)
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
            whole, top_k_of_parts(query, parts, k, max_distance=max_distance), strict=True
        ):
            np.testing.assert_array_equal(one, other)
