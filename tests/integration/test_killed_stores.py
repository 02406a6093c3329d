"""Deletions after runs that were killed at any step leave nothing of a person."""

import json
from contextlib import suppress
from itertools import count
from uuid import uuid4

import pytest
import s3fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.store_rows import find_stored
from support.store_runs import (
    SHAPE,
    digest,
    embed,
    files_in_bucket,
    files_on_disk,
    find_traces,
    forget_person,
    image_names_of,
    run_killed,
    run_steps,
    write_legacy_store,
)

from reidray.errors import UserError
from reidray.scoring.store.embedding_store import EmbeddingStore
from reidray.scoring.store.part_storage import PartFolder
from reidray.storage.location import Location

people = st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True)
step = st.one_of(
    st.tuples(
        st.sampled_from(["embed", "files", "full"]), st.tuples(st.sampled_from("mn"), people)
    ),
    st.tuples(st.just("forget"), st.tuples(st.integers(1, 3))),
)


def kept(uri, person, model="m"):
    """Return the number of images of a person with an embedding in a store."""
    store = EmbeddingStore(PartFolder(Location(uri)), model, SHAPE)
    places = find_stored(store, [digest(name) for name in image_names_of(person)])
    return len(places) - places.count(None)


def audit(uri):
    return [json.loads(line) for line in Location(uri).read_bytes("forgotten.jsonl").splitlines()]


def forget_if_there(uri, person):
    """Delete a person, and allow that the store holds nothing of the person."""
    try:
        forget_person(uri, person)
    except UserError as error:
        if "holds no person of this name" not in str(error):
            raise


@given(st.lists(step, min_size=1, max_size=3), st.integers(1, 60))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_a_run_killed_anywhere_leaves_nothing_of_a_person_once_a_forget_has_ended(
    tmp_path_factory, steps, at
):
    folder = tmp_path_factory.mktemp("killed")
    uri = str(folder / "store")
    embed(uri, "m", [1, 2])
    run_killed(uri, steps, at)
    forgotten = {person for name, (person, *_) in steps if name == "forget"}
    others = {person: kept(uri, person) for person in {2, 3} - forgotten}
    forget_if_there(uri, 1)
    assert not find_traces(files_on_disk(folder), 1)
    assert {person: kept(uri, person) for person in others} == others
    assert all(entry["completed"] for entry in audit(uri))


EVERY = pytest.mark.parametrize(
    ("first", "apart"), [(5, 11), pytest.param(1, 1, marks=pytest.mark.slow)]
)
"""Operations at which a run is killed: some of them, or every one."""


@EVERY
def test_a_forget_killed_at_any_step_is_completed_with_the_figures_of_a_quiet_one(
    tmp_path, first, apart
):
    for at in count(first, apart):
        uri = str(tmp_path / str(at))
        embed(uri, "m", [1, 2])
        embed(uri, "n", [1])
        if not run_killed(uri, [("forget", (1,))], at):
            break
        if (tmp_path / str(at) / "forgotten.jsonl").exists() and audit(uri)[0]["completed"]:
            with pytest.raises(UserError, match="holds no person of this name"):
                forget_person(uri, 1)
        else:
            told = forget_person(uri, 1)
            assert (told["images"], told["embeddings"], told["files"]) == (2, 4, 2)
        (entry,) = audit(uri)
        assert (entry["images"], entry["embeddings"], entry["files"]) == (2, 4, 2)
        assert entry["when"] < entry["completed"]
        assert not find_traces(files_on_disk(tmp_path / str(at)), 1)
        assert kept(uri, 2) == 2
    assert at > 40


@EVERY
def test_a_run_killed_at_any_step_leaves_only_what_the_next_one_removes(tmp_path, first, apart):
    for at in count(first, apart):
        uri = str(tmp_path / str(at))
        embed(uri, "m", [1, 2])
        embed(uri, "n", [1])
        if not run_killed(uri, [("embed", ("m", [3])), ("full", ("m", [1, 2]))], at):
            break
        assert kept(uri, 2) == kept(uri, 1, "n") == 2
        embed(uri, "m", [3])
        files = {path.name for path in (tmp_path / str(at)).rglob("*") if path.is_file()}
        assert all(name.endswith(".parquet") and name[0] != "." for name in files)
    assert at > 20


@EVERY
def test_a_run_killed_as_it_keeps_a_ranking_leaves_the_old_one_or_the_new_one(
    tmp_path, first, apart
):
    gallery = {f"{number}.jpg": (number, 1) for number in range(9)}
    nights = [
        {"query": {"a.jpg": (2, 0), "b.jpg": (6, 0)}, "gallery": gallery | changes}
        for changes in ({}, {"2.jpg": (9, 9), "9.jpg": (2, 1)})
    ]
    for at in count(first, 3 * apart):
        uri = str(tmp_path / str(at))
        run_steps(uri, [("rank", (nights[0],))])
        if not run_killed(uri, [("rank", (nights[1],))], at):
            break
        run_steps(uri, [("rank", (night,)) for night in nights[::-1]])
        listed = [each.ranking for each in PartFolder(Location(uri)).scan().rankings]
        assert len(listed) == 1
        files = {file.path for ranking in listed for file in ranking.files}
        assert len(files) == len(list((tmp_path / str(at) / "files").iterdir()))
    assert at > 40


@EVERY
def test_a_store_of_the_earlier_layout_killed_as_it_moves_loses_only_what_has_no_name(
    tmp_path, first, apart
):
    for at in count(first, apart):
        uri = str(tmp_path / str(at))
        write_legacy_store(
            uri, images=[1, 2], embeddings=[1, 2, 3]
        )  # nobody says whose the third are
        if not run_killed(uri, [("embed", ("m", []))], at):
            break
        for _ in range(at % 2):
            embed(uri, "m", [])
        assert forget_person(uri, 1)["images"] == 2
        assert kept(uri, 2) == 2
        left = files_on_disk(tmp_path / str(at))
        assert not find_traces(left, 1) + find_traces(left, 3)
        assert {path.name for path in (tmp_path / str(at)).iterdir()} == {
            "parts",
            "forgotten.jsonl",
        }
    assert at > 10


@pytest.fixture(scope="module")
def versioned(s3_server):
    """Return a client of a server, and a function that makes buckets with versions there."""
    client = s3fs.S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        version_aware=True,
        endpoint_url="http://{}:{}".format(*s3_server),
        key="AKIAEXAMPLE",
        secret="secret",
    )

    def make():
        name = f"bucket-{uuid4().hex[:12]}"
        client.call_s3("create_bucket", Bucket=name)
        versioning = {"Status": "Enabled"}
        client.call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration=versioning)
        return name

    return client, make


@pytest.mark.parametrize(
    ("earlier", "apart"),
    [
        *((False, 61), (True, 71)),
        *(pytest.param(each, 7, marks=pytest.mark.slow) for each in (False, True)),
    ],
)
def test_a_run_cut_off_from_a_bucket_anywhere_leaves_nothing_of_a_person(
    unreliable, versioned, monkeypatch, earlier, apart
):
    monkeypatch.setattr("reidray.storage.locks.object_lock.STALE_SECONDS", 0.0)
    s3, make_bucket = versioned
    for at in count(4, apart):
        bucket = make_bucket()
        uri = f"s3://{bucket}/store"
        if earlier:
            write_legacy_store(uri, images=[1, 2], embeddings=[1, 2])
        else:
            embed(uri, "m", [1, 2])
        unreliable.left = at
        with suppress(OSError, UserError):
            run_steps(uri, [("embed", ("m", [1])), ("forget", (1,))])
        ended, unreliable.left = unreliable.left > 0, None
        forget_if_there(uri, 1)
        assert not find_traces(files_in_bucket(s3, bucket), 1)
        assert kept(uri, 2) == 2
        assert all(entry["completed"] for entry in audit(uri))
        if ended:
            break
    assert at > 30
