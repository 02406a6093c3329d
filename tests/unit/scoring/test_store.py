import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.store_rows import append_rows, find_stored, image_table, part_rows, read_stored

from reidray.errors import UserError
from reidray.inference.distributed.task_runner import LocalTasks
from reidray.inference.image_batches import DIGEST_BYTES, DIGEST_KEY_BYTES, contains_digest
from reidray.inference.predictions import PredictionShape
from reidray.retrieval import top_k
from reidray.retrieval.partitioned_search import top_k_from_parts
from reidray.scoring.stages import missing_images, replaced_embeddings
from reidray.scoring.stages.replaced_embeddings import remove_replaced
from reidray.scoring.store.embedding_store import (
    EmbeddingStore,
    open_parts,
    open_temporary_parts,
)
from reidray.scoring.store.part_storage import PartFolder
from reidray.scoring.store.stored_images import embedded_keys, find_images
from reidray.storage.location import Location

SHAPE = PredictionShape(4, 3)


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


def append(store, numbers):
    """Append predictions that repeat the number of each content."""
    predictions = store.shape.empty(len(numbers))
    for values in vars(predictions).values():
        values[:] = np.array(numbers).reshape(-1, *[1] * (values.ndim - 1))
    rows = [("/a", f"{number}.jpg", "s", digest(number), None) for number in numbers]
    append_rows(store, rows, predictions)


def open_s3(folder, model="m", shape=SHAPE, **asked):
    return EmbeddingStore(PartFolder(Location(str(folder))), model, shape, **asked)


def is_stored(store, numbers):
    return [place is not None for place in find_stored(store, list(map(digest, numbers)))]


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
        places = find_stored(opened, list(map(digest, asked)))
        assert [place is not None for place in places] == [number in kept for number in asked]
        there = np.array([number for number in asked if number in kept])
        predictions = read_stored(opened, [place for place in places if place])
        for name, values in vars(predictions).items():
            assert values.shape[1:] == getattr(store.shape.empty(0), name).shape[1:]
            assert (there == values.T).all()
        keys = embedded_keys(opened.contents, opened.contents.embedded_parts())
        assert keys.tolist() == sorted(keys.tolist())
        assert [contains_digest(keys, digest(n)) for n in asked] == [n in kept for n in asked]


@pytest.mark.parametrize("group", [1, 3, 100])
def test_a_store_keeps_models_apart_and_replaces_the_embeddings_of_one(
    tmp_path, monkeypatch, group
):
    monkeypatch.setattr(replaced_embeddings, "GROUP_ROWS", group)
    monkeypatch.setattr(missing_images, "PARTS_IN_TASK", group)
    for numbers in ([1, 2], [4, 5], [6], [7, 8]):
        append(open_s3(tmp_path, "one"), numbers)
    append(open_s3(tmp_path, "other"), [2, 5])
    append(open_s3(tmp_path, "third"), [8, 4])
    assert is_stored(open_s3(tmp_path, "other"), [1, 2]) == [False, True]
    replacing = open_s3(tmp_path, "one", replace_existing=True)
    assert is_stored(replacing, [1]) == [False]
    append(replacing, [2, 3])
    remove_replaced(LocalTasks(), replacing)
    assert is_stored(open_s3(tmp_path, "one"), range(1, 9)) == [n in (2, 3) for n in range(1, 9)]
    assert is_stored(open_s3(tmp_path, "other"), [2, 5, 8]) == [True, True, False]
    known = look_up(open_s3(tmp_path, "one"), "/a", [f"{n}.jpg" for n in range(1, 9)], ["s"] * 8)
    kept = [n not in (1, 6, 7) for n in range(1, 9)]  # these are in no model
    assert np.asarray(known.digests.is_valid()).tolist() == kept


def test_the_store_of_one_run_holds_what_was_kept_and_no_name_of_a_file_appears(tmp_path):
    with open_temporary_parts(tmp_path) as parts:
        store = EmbeddingStore(parts, "m", SHAPE)
        append(store, [1, 2])
        append(store, [3])
        places = find_stored(store, [digest(number) for number in (3, 1, 2)])
        assert read_stored(store, places).uncertainty.tolist() == [3, 1, 2]
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
    assert is_stored(open_s3(uri), [1, 2]) == [True, False]


def test_a_part_is_kept_though_the_answer_to_its_writing_is_lost(bucket, unreliable):
    unreliable.lost = (".parquet",)
    store = open_s3(f"{bucket}/store")
    append(store, [1])
    append(store, [2])
    assert unreliable.met["lost"] == 2
    assert is_stored(open_s3(f"{bucket}/store"), [1, 2]) == [True, True]


def test_a_part_that_changed_since_a_store_was_opened_is_not_read(tmp_path):
    store = open_s3(tmp_path)
    append(store, [1, 2])
    append(store, [3])
    log = PartFolder(Location(str(tmp_path)))
    first, _ = log.find()
    places = find_stored(store, [digest(1), digest(2)])
    data = (tmp_path / "parts" / "00000002.parquet").read_bytes()
    for changed in (data, b""):
        log.replace(first, changed)
        with pytest.raises(UserError, match="another run began to write it"):
            read_stored(store, places)


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


@pytest.mark.parametrize("column", ["content", "embedding", "codes"])
def test_a_part_with_a_flipped_bit_is_not_read(tmp_path, column):
    append(open_s3(tmp_path), [1])
    (part,) = tmp_path.rglob("*.parquet")
    data, group = bytearray(part.read_bytes()), pq.ParquetFile(part).metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = [each for each in columns if each.path_in_schema.split(".")[0] == column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start + chunk.total_compressed_size - 1] ^= 8
    part.write_bytes(data)
    store = open_s3(tmp_path)
    with pytest.raises(UserError, match=rf"{part.name}: is not a part of a store.*remove it"):
        read_stored(store, find_stored(store, [digest(1)]))


def test_a_part_whose_description_has_changed_is_named(tmp_path):
    append(open_s3(tmp_path), [1])
    (part,) = tmp_path.rglob("*.parquet")
    table = pq.read_table(part)
    metadata = table.schema.metadata
    described = metadata[b"reidray"].replace(b'"model": "m"', b'"model": "l"')
    pq.write_table(table.replace_schema_metadata(metadata | {b"reidray": described}), part)
    with pytest.raises(UserError, match=r"description has changed.*remove it"):
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
    keys = [digest[:DIGEST_KEY_BYTES] for digest in digests]
    known = np.sort(np.array(keys, dtype=f"S{DIGEST_KEY_BYTES}"))
    other = data.draw(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))
    assert all(contains_digest(known, digest) for digest in digests)
    assert contains_digest(known, other) == (other[:DIGEST_KEY_BYTES] in keys)


def see(store, *rows):
    append_rows(store, rows, store.shape.empty(0))


def look_up(store, folder, paths, stamps):
    return find_images(
        store.contents,
        folder,
        pa.chunked_array([pa.array(paths, pa.large_string())]),
        pa.chunked_array([pa.array(stamps, pa.string())]),
    )


def test_a_file_is_known_by_folder_name_and_stamp(tmp_path):
    store = open_s3(tmp_path)
    see(store, ("/a", "x.jpg", "s1", digest(1), None), ("/a", "y.jpg", "", digest(2), None))
    see(store, ("/a", "x.jpg", "s2", digest(3), None), ("/b", "x.jpg", "s1", digest(4), "torn"))

    def contents(folder, path, stamp):
        known = look_up(open_s3(tmp_path), folder, [path], [stamp])
        return known.digests.to_pylist()[0], known.reasons.to_pylist()[0]

    assert contents("/a", "x.jpg", "s2") == (digest(3), None)
    assert contents("/a", "x.jpg", "s1") == (digest(1), None)
    assert contents("/a", "x.jpg", "s3") == (None, None)
    assert contents("/a", "y.jpg", "") == (None, None)
    assert contents("/b", "x.jpg", "s1") == (digest(4), "torn")
    assert contents("/a", "new.jpg", "s1") == (None, None)


def test_what_this_run_has_read_is_known_by_its_name(tmp_path):
    append(open_s3(tmp_path), [1])
    store = open_s3(tmp_path)
    see(store, ("/a", "1.jpg", "", digest(2), None), ("/a", "2.jpg", "", digest(1), None))
    known = look_up(store, "/a", ["1.jpg", "2.jpg"], ["s", ""])
    assert known.digests.to_pylist() == [digest(2), digest(1)]
    assert known.parts.tolist() == [-1, -1]


def test_the_embedding_of_an_image_is_found_in_its_own_row_among_many_parts(tmp_path):
    store = open_s3(tmp_path)
    for start in range(0, 60, 7):
        append(store, list(range(start, min(start + 7, 60))))
    paths = sorted(f"{number}.jpg" for number in range(60))
    known = look_up(open_s3(tmp_path), "/a", paths, ["s"] * 60)
    found = read_stored(store, np.stack([known.parts, known.rows], axis=1))
    assert [f"{number:.0f}.jpg" for number in found.uncertainty] == paths


def test_a_store_of_the_version_before_is_read(tmp_path):
    """Its parts hold embeddings as lists, and their rows with embeddings come first."""
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    rows = [("/a", f"{n}.jpg", "s", digest(n), None if n < 2 else "torn") for n in range(3)]
    table = image_table(rows)
    for name, column in {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 4),
        "codes": pa.array([[0, 1, 2]] * 2, pa.list_(pa.int8())),
        "doubt": pa.array([0.5, 0.25], pa.float32()),
    }.items():
        table = table.append_column(name, pa.chunked_array([column, pa.nulls(1, column.type)]))
    described = {"reidray": json.dumps({"model": "m", "day": "2026-11-01"})}
    (tmp_path / "parts").mkdir()
    pq.write_table(table.replace_schema_metadata(described), tmp_path / "parts/00000001.parquet")
    known = look_up(open_s3(tmp_path), "/a", ["0.jpg", "1.jpg", "2.jpg"], ["s"] * 3)
    assert known.reasons.to_pylist() == [None, None, "torn"]
    found = read_stored(open_s3(tmp_path), np.stack([known.parts, known.rows], axis=1)[:2])
    assert (found.embeddings == values).all()
    assert found.uncertainty.tolist() == [0.5, 0.25]


def write_file(folder, numbers):
    """Write a file of rows as a worker does."""
    store = open_s3(folder)
    predictions = store.shape.empty(len(numbers))
    for values in vars(predictions).values():
        values[:] = np.array(numbers).reshape(-1, *[1] * (values.ndim - 1))
    table = image_table([("/a", f"{n}.jpg", "s", digest(n), None) for n in numbers])
    rows = part_rows(table, predictions, "m")
    file = PartFolder(Location(str(folder))).write_file(rows.to_parquet())
    return replace(file, summary=rows.summary)


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_the_files_of_workers_belong_to_a_store_once_they_are_committed(place, tmp_path, request):
    uri = str(tmp_path / "store")
    if place == "bucket":
        uri = f"{request.getfixturevalue('bucket')}/store"
    files = [write_file(uri, [1, 2]), write_file(uri, [3])]
    assert is_stored(open_s3(uri), [1, 2, 3]) == [False] * 3
    store = open_s3(uri)
    store.commit(files)
    assert len(store) == len(open_s3(uri)) == 3
    assert is_stored(open_s3(uri), [1, 2, 3]) == [True] * 3
    write_file(uri, [4])
    with open_parts(uri) as parts:
        assert is_stored(EmbeddingStore(parts, "m", SHAPE), [1, 2, 3, 4]) == [True] * 3 + [False]
    assert len(Location(uri).list_files(under="files")) == 2


def test_a_writer_that_stood_still_commits_nothing_once_another_has_removed_its_files(tmp_path):
    late = open_s3(tmp_path)
    file = write_file(tmp_path, [1])
    with open_parts(str(tmp_path)):
        pass
    with pytest.raises(UserError, match="another run began to write it"):
        late.commit([file])
    assert is_stored(open_s3(tmp_path), [1]) == [False]


def test_a_committed_file_that_is_damaged_is_named_and_one_that_was_removed_too(tmp_path, caplog):
    files = [write_file(tmp_path, [1]), write_file(tmp_path, [2])]
    open_s3(tmp_path).commit(files)
    file = tmp_path / files[0].path
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"{file.name}: is not a part of a store.*remove it"):
        open_s3(tmp_path)
    file.unlink()
    assert is_stored(open_s3(tmp_path), [1, 2]) == [False, True]
    assert (
        f"1 files that parts/00000001.parquet lists are not there, {files[0].path}" in caplog.text
    )


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
