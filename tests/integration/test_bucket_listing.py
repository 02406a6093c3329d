import os
from concurrent.futures import ThreadPoolExecutor

import boto3
import pyarrow as pa
import pytest
from support.tiny_images import tiny_jpeg

from reidray.data.listing import listing_job
from reidray.data.listing.image_listing import ImageListing
from reidray.data.listing.listing_job import write_listing
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


def assert_same(location, work, run_tasks=map):
    found = find_images(location)
    listing = write_listing(
        location, work, "gallery", run_tasks, with_stamps=True, check_names=accept
    )
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
        monkeypatch.setattr(listing_job, "FIRST_KEYS", 1)
        monkeypatch.setattr(listing_job, "TASK_KEYS", 2)
        monkeypatch.setattr(listing_job, "TASKS", 4)
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
            write_listing(
                location, Location(str(tmp_path)), "q", with_stamps=False, check_names=accept
            )
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
        write_listing(
            Location(f"{bucket}/set"),
            Location(str(tmp_path)),
            "q",
            with_stamps=False,
            check_names=check_names,
        )
