import os
import pickle
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import boto3
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.key_server import KeyServer
from support.tiny_images import tiny_jpeg

from reidray.data.listing import listing_job
from reidray.data.listing.image_listing import ImageListing
from reidray.data.listing.key_ranges import split_ranges
from reidray.data.listing.listing_job import write_listing
from reidray.data.listing.path_range import PathRange
from reidray.data.reading.image_folders import find_images
from reidray.errors import UserError
from reidray.scoring.ranking_file import check_names
from reidray.storage.location import Location


def accept(names):
    """Accept all names."""


def put_all(bucket, keys, data=b"x"):
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    name = bucket.removeprefix("s3://")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda key: store.put_object(Bucket=name, Key=key, Body=data), keys))


def paths_of(listing: ImageListing):
    tables = [listing.read(shard) for shard in listing.shards]
    firsts = [0]
    for shard, table in zip(listing.shards, tables, strict=True):
        assert (shard.first, shard.rows) == (firsts[-1], table.num_rows)
        assert shard.first_path == table["path"][0].as_py()
        assert shard.last_path == table["path"][-1].as_py()
        firsts.append(firsts[-1] + shard.rows)
    table = pa.concat_tables(tables)
    return tuple(table["path"].to_pylist()), table["stamp"].to_pylist()


def listing_of(uri, work, **options):
    options = {"with_stamps": True, "check_names": check_names} | options
    return write_listing(Location(uri), Location(str(work)), "gallery", **options)


def assert_same(location, work, run_tasks=map):
    found = find_images(location)
    options = {"with_stamps": True, "check_names": accept}
    listing = write_listing(location, work, "gallery", run_tasks, **options)
    paths, stamps = paths_of(listing)
    assert paths == found.paths
    assert listing.skipped == found.skipped
    assert stamps == location.read_stamps(paths)
    return listing


@pytest.fixture(params=["one task", "many tasks"])
def small_tasks(request, monkeypatch):
    """Split a bucket of a few keys into many tasks of one page each."""
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)
    if request.param == "many tasks":
        monkeypatch.setattr(listing_job, "ROUNDS", ((1, 1), (4, 2)))
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # the server runs in this process


STRANGE = (
    *("a//b.jpg", "./c.jpg", "x/../d.jpg", "/lead.jpg", "sp ace.jpg", "pl+us.jpg", "100%.jpg"),
    *(
        "per%20cent.jpg",
        "q?x.jpg",
        "q?d/e.jpg",
        "h#x.jpg",
        "a&b=c.jpg",
        "\u00e9.jpg",
        "\U0001f600/a.jpg",
    ),
    *("\uffee.jpg", "a.jpg", "a.jpg/b.jpg", "a-b/c.jpg", "a/c.jpg", "a.b/c.jpg", "a", "ab", "abc"),
    *(".git/1", ".git/2.jpg", ".git/deep/3.jpg", "p/.h.jpg", "p/.cache/1", "p/.cache/2", "p/.d/3"),
    *("@eaDir/.x/1.jpg", "@eaDir/2.jpg", "Thumbs.db", "._q.jpg", "notes.txt", "more.TXT", "m.csv"),
    *("noimage", "no.thing"),
)


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("prefix", ["set/", "a//set/", ""])
def test_any_keys_are_listed_as_in_memory(bucket, tmp_path, prefix):
    put_all(bucket, [prefix + key for key in STRANGE], tiny_jpeg())
    put_all(bucket, [prefix + key for key in ("noimage", "no.thing")], b"text")
    put_all(bucket, [prefix + "empty/", prefix + "p/"], b"")
    put_all(bucket, ["sess/other.jpg", "set.jpg", "set0/other.jpg"] if prefix else [])
    work = Location(f"{bucket}/work") if prefix else Location(str(tmp_path))
    assert_same(Location(f"{bucket}/{prefix}"), work)


@pytest.mark.usefixtures("small_tasks")
def test_missing_and_empty_folders_of_a_bucket_are_named(bucket, tmp_path):
    put_all(bucket, ["marked/", "texts/a.txt", "texts/.b/c.jpg", "set/a.jpg"])
    for name in ("gone", "marked", "texts", "set/a.jpg"):
        location = Location(f"{bucket}/{name}")
        with pytest.raises(UserError) as expected:
            find_images(location)
        with pytest.raises(UserError) as error:
            listing_of(location.uri, tmp_path, check_names=accept)
        assert str(error.value) == str(expected.value)
    with pytest.raises(UserError, match="s3://no-such-bucket"):
        write_listing(
            Location("s3://no-such-bucket/a"),
            Location(str(tmp_path)),
            "q",
            with_stamps=False,
            check_names=accept,
        )
    put_all(bucket, ["set/b,c.jpg"])
    with pytest.raises(UserError, match=r"'b,c\.jpg' cannot stand"):
        listing_of(f"{bucket}/set", tmp_path)


def test_tasks_and_their_results_can_be_pickled(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(listing_job, "ROUNDS", ((1, 20), (16, 1000)))
    put_all(bucket, [f"set/{person:02}/{image}.jpg" for person in range(20) for image in range(4)])
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "20")

    def run_elsewhere(function, items):
        for item in items:
            there, task = pickle.loads(pickle.dumps((function, item)))
            yield pickle.loads(pickle.dumps(there(task)))

    location = pickle.loads(pickle.dumps(Location(f"{bucket}/set")))
    monkeypatch.setattr("reidray.storage.location.FRESH_NS", 0)
    assert len(assert_same(location, Location(str(tmp_path)), run_elsewhere).shards) > 10


@pytest.mark.parametrize(("trouble", "share"), [("slow", 0.2), ("busy", 0.3), ("cut", 0.3)])
def test_a_store_that_fails_now_and_then_is_listed_whole(
    bucket, unreliable, tmp_path, monkeypatch, trouble, share
):
    monkeypatch.setattr(listing_job, "ROUNDS", ((1, 20), (4, 1000)))
    keys = [f"set/{person}/{image}.jpg" for person in range(8) for image in range(8)]
    put_all(bucket, keys)
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    setattr(unreliable, trouble, share)
    listing = listing_of(f"{bucket}/set", tmp_path)
    assert unreliable.met[trouble] > 2
    assert paths_of(listing)[0] == tuple(key.removeprefix("set/") for key in keys)


def test_a_store_that_stops_answering_is_named_and_leaves_an_error(
    bucket, unreliable, tmp_path, monkeypatch
):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    put_all(bucket, [f"set/{image:02}.jpg" for image in range(50)])
    unreliable.left = 3
    with pytest.raises(UserError, match=r"set: cannot be read \(.*\); check the address"):
        listing_of(f"{bucket}/set", tmp_path)


CHARACTERS = st.sampled_from("ab/.-0\u00e9\ud7ff\ue000\U0001f600\U0010ffff")
KEYS = st.sets(st.text(CHARACTERS, min_size=1, max_size=6), min_size=1, max_size=40)


@pytest.fixture
def key_server(monkeypatch):
    """Yield a server of no keys yet, and set credentials, which it does not read."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with KeyServer(0, str) as server:
        yield server


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(KEYS, st.integers(1, 12), st.data())
def test_ranges_cover_every_key_once(key_server, keys, parts, data):
    ordered = sorted(keys)
    cuts = sorted(data.draw(st.sets(st.sampled_from(ordered), max_size=3)))
    whole = [PathRange(a, b) for a, b in pairwise(["", *cuts, None])]
    key_server.set_keys(len(ordered), lambda number: f"set/{ordered[number]}")
    ranges = split_ranges(Location(key_server.uri("/set")), whole, parts)
    assert [key for each in ranges for key in ordered if each.holds(key)] == ordered
    assert len(ranges) <= max(2 * parts, len(whole))
    assert len(ranges) >= min(parts, len(ordered)) // 2


@pytest.mark.parametrize(
    "key_of",
    [
        pytest.param(lambda n: f"set/{n // 20:07}/{n:08}.jpg", id="a folder for each person"),
        pytest.param(lambda n: f"set/{n // 20:07}_c1s1_{n % 20:03}.jpg", id="no folders"),
        pytest.param(lambda n: f"set/cam_{n // 250_000}/x/{n % 250_000:09}.jpg", id="few folders"),
        pytest.param(
            lambda n: f"set/a/b/{n:09}.jpg" if n < 900_000 else f"set/c{n:09}/x.jpg", id="skewed"
        ),
    ],
)
def test_a_million_keys_are_split_evenly_by_few_requests(key_server, key_of):
    count, parts = 1_000_000, 64
    key_server.set_keys(count, key_of)
    ranges = split_ranges(Location(key_server.uri("/set")), [PathRange()], parts)
    assert key_server.probes < 1000
    starts = [
        bisect_right(range(count), f"set/{each.after}", key=key_of) if each.after else 0
        for each in ranges
    ]
    sizes = [b - a for a, b in pairwise([*starts, count])]
    assert parts <= len(ranges) <= 2 * parts
    assert sum(sizes) == count
    assert max(sizes) <= 3 * count / parts


def test_few_shards_hold_a_large_bucket_and_what_a_task_leaves_is_listed(
    key_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(listing_job, "ROUNDS", ((1, 10_000), (2, 2_000), (8, 2_000)))
    count = 40_000
    key_server.set_keys(count, lambda number: f"set/{number // 20:07}/{number:08}.jpg")
    listing = listing_of(key_server.uri("/set"), tmp_path)
    assert key_server.pages < 1.5 * count / 1000 + 10
    paths, stamps = paths_of(listing)
    assert paths == tuple(f"{number // 20:07}/{number:08}.jpg" for number in range(count))
    assert len(set(stamps)) == count
    assert len(listing.shards) < 30


def test_a_store_that_does_not_sort_its_keys_is_refused(key_server, tmp_path):
    key_server.set_keys(3, ["set/a.jpg", "set/c.jpg", "set/b.jpg"].__getitem__)
    with pytest.raises(UserError, match=r"lists 'b\.jpg' after 'c\.jpg', expected sorted keys"):
        listing_of(key_server.uri("/set"), tmp_path)
