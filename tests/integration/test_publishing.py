import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from hashlib import sha256

import pytest
from support.s3_server import all_objects, latest_run

from reidray.data.images.decoding import BadImage, decode_files
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output, check_output, exclusive_writer
from reidray.storage.retries import retry_count

HOLD = """
import sys, time
import reidray.storage.locks.object_lock
from reidray.storage.publishing import atomic_output
reidray.storage.locks.object_lock.RENEW_SECONDS = 0.5
with atomic_output(sys.argv[1], frozenset({"a.txt"})) as folder:
    (folder / "a.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(120)
"""


EARLIER = frozenset({"a.txt", "b.txt"})


def publish(uri, **files):
    with atomic_output(uri, EARLIER) as folder:
        for name, text in files.items():
            (folder / f"{name}.txt").write_text(text)


def write_half_and_fail(uri, happen):
    with atomic_output(uri, EARLIER) as folder:
        (folder / "a.txt").write_text("half")
        happen()


def read(uri):
    """Return the files that a reader of an output in an object store sees."""
    latest = json.loads(Location(uri).read_bytes("latest.json"))
    run = latest_run(uri)
    files = {name: run.read_bytes(name) for name in run.list_files()}
    told = {name: (entry["bytes"], entry["sha256"]) for name, entry in latest["files"].items()}
    assert told == {name: (len(data), sha256(data).hexdigest()) for name, data in files.items()}
    return {name: data.decode() for name, data in files.items()}


def test_an_output_in_a_bucket_is_the_earlier_or_the_new_one_never_both(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="old", b="old")
    with atomic_output(uri, EARLIER) as folder:
        (folder / "a.txt").write_text("new")
        assert read(uri) == {"a.txt": "old", "b.txt": "old"}
    assert read(uri) == {"a.txt": "new"}


def test_a_failure_leaves_the_earlier_output_of_a_bucket(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="old")
    before = Location(uri).list_files()
    with pytest.raises(ZeroDivisionError):
        write_half_and_fail(uri, lambda: 1 / 0)
    assert read(uri) == {"a.txt": "old"}
    assert Location(uri).list_files() == before


def test_the_previous_run_stays_for_its_readers_and_older_ones_are_deleted(bucket):
    uri = f"{bucket}/out"
    runs = []
    for text in ("one", "two", "three"):
        publish(uri, a=text)
        runs.append(latest_run(uri))
    assert [run.exists() for run in runs] == [False, True, True]
    assert runs[1].read_bytes("a.txt") == b"two"


OTHERS = [
    "notes.txt",
    ".hidden",
    "runs/market/",
    "runs/zebra.txt",
    "runs/20260101T000000000000Z-0123456/",
    "runs/20260101T000000000000Z-01234567",
    "latest.json",
    "writing.json",
    "thesis/",
]


@pytest.mark.parametrize("other", OTHERS)
def test_objects_of_others_at_an_address_are_refused_and_stay(bucket, other):
    uri = f"{bucket}/out"
    Location(uri).write_bytes(f"{other}1.jpg" if other.endswith("/") else other, b'{"mine": 1}')
    before = all_objects(uri)
    with pytest.raises(UserError, match=rf"out: holds '{other}'.*choose an empty folder"):
        publish(uri, a="new")
    assert all_objects(uri) == before
    with pytest.raises(UserError, match="would be lost"):
        check_output(uri, EARLIER)


@pytest.mark.parametrize("name", ["latest.json", "writing.json"])
def test_json_that_is_nested_too_deep_belongs_to_others(bucket, name):
    Location(f"{bucket}/out").write_bytes(name, b"[" * 100_000)
    with pytest.raises(UserError, match=rf"out: holds '{name}'"):
        publish(f"{bucket}/out", a="new")


def test_an_object_of_others_with_the_name_of_the_lock_is_never_overwritten(bucket):
    location = Location(f"{bucket}/store")
    location.write_bytes("writing.json", b'{"essay": "mine"}')
    with pytest.raises(UserError, match=r"writing\.json: is not the lock of a run"):
        take_and_release(location)
    assert all_objects(location.uri) == {"writing.json": b'{"essay": "mine"}'}


def take_and_release(location):
    with exclusive_writer(location):
        pass


def test_objects_of_others_among_the_runs_are_never_deleted(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="one")
    first = json.loads(Location(uri).read_bytes("latest.json"))["run"]
    copied = "runs/20200101T000000000000Z-01234567"
    manifest = Location(uri).read_bytes(f"{first}/.manifest.json")
    mine = {
        f"{first}/notes.txt": b"of mine",
        f"{copied}/a.txt": b"a copy under another name",
        f"{copied}/.manifest.json": manifest,
        "runs/20990101T000000000000Z-01234567/a.txt": b"has no manifest",
    }
    for name, data in mine.items():
        Location(uri).write_bytes(name, data)
    for text in ("two", "three", "four"):
        publish(uri, a=text)
        assert read(uri) == {"a.txt": text}
    objects = all_objects(uri)
    assert {name: objects.get(name) for name in mine} == mine
    assert f"{first}/a.txt" not in objects
    assert sum(name.endswith("/a.txt") for name in objects) == 4  # two of them are mine


def test_the_newest_run_stays_where_the_clock_went_back(bucket, monkeypatch):
    uri = f"{bucket}/out"
    publish(uri, a="one")
    later = json.loads(Location(uri).read_bytes("latest.json"))["run"]
    for year in (2020, 2010):
        monkeypatch.setattr("reidray.storage.bucket_runs.datetime", clock_of(year))
        publish(uri, a=f"of {year}")
        assert read(uri) == {"a.txt": f"of {year}"}
    assert f"{later}/a.txt" not in all_objects(uri)


def clock_of(year):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(year, 1, 1, tzinfo=tz)

    return Clock


def test_an_output_of_an_earlier_version_is_replaced_and_later_deleted(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="one")
    run = json.loads(Location(uri).read_bytes("latest.json"))["run"]
    Location(uri).delete_file(f"{run}/.manifest.json")
    publish(uri, a="two")
    assert Location(uri).read_bytes(f"{run}/a.txt") == b"one"
    publish(uri, a="three")
    assert not [name for name in all_objects(uri) if name.startswith(run)]
    assert read(uri) == {"a.txt": "three"}


def test_the_next_upload_deletes_the_files_of_a_broken_one(bucket, unreliable):
    uri = f"{bucket}/out"
    unreliable.denied = ("b.txt",)
    with pytest.raises(OSError, match=r"b\.txt"):
        publish(uri, a="half", b="half")
    unreliable.denied = ()
    assert [name for name in all_objects(uri) if name.endswith("a.txt")]
    publish(uri, a="one")
    assert {name.split("/")[1] for name in all_objects(uri) if "/" in name} == {
        latest_run(uri).name
    }
    assert read(uri) == {"a.txt": "one"}


def test_an_output_of_another_job_is_not_replaced_in_a_bucket(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="one")
    for replaces, summary in ((frozenset(), None), (EARLIER, "b.txt")):
        with pytest.raises(UserError, match=r"holds '.*a\.txt'"):
            check_output(uri, replaces, summary)
    check_output(uri, EARLIER, "a.txt")
    Location(uri).delete_file("latest.json")
    with pytest.raises(UserError, match=r"holds 'runs/.*a\.txt'"):
        check_output(uri, frozenset({"b.txt"}))
    check_output(uri, EARLIER, "a.txt")


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_a_second_run_stops_while_the_first_writes_and_not_once_it_was_killed(
    place, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr("reidray.storage.locks.object_lock.RENEW_SECONDS", 0.5)
    monkeypatch.setattr("reidray.storage.locks.object_lock.STALE_SECONDS", 3.0)
    uri = f"{bucket}/out" if place == "bucket" else str(tmp_path / "out")
    publish(uri, a="old")
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, uri], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert first.stdout.readline() == "writing\n"
        with pytest.raises(UserError, match=r"out: another run is writing it.*wait for its end"):
            publish(uri, a="second")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert read_any(uri) == {"a.txt": "old"}
    publish(uri, a="third")
    assert read_any(uri) == {"a.txt": "third"}
    if place == "disk":
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    else:
        assert "writing.json" not in Location(uri).list_files()


def read_any(uri):
    if uri.startswith("s3://"):
        return read(uri)
    return {name: Location(uri).read_bytes(name).decode() for name in Location(uri).list_files()}


def test_a_run_whose_lock_was_taken_over_publishes_nothing(bucket):
    uri = f"{bucket}/out"
    publish(uri, a="old")
    with pytest.raises(UserError, match="another run began to write it"):
        write_half_and_fail(uri, lambda: Location(uri).write_bytes("writing.json", b"{}"))
    assert read(uri) == {"a.txt": "old"}


def test_a_lock_is_kept_though_the_answers_to_its_writes_are_lost(bucket, unreliable, monkeypatch):
    monkeypatch.setattr("reidray.storage.locks.object_lock.RENEW_SECONDS", 0.2)
    unreliable.lost = ("writing.json",)
    uri = f"{bucket}/out"
    with atomic_output(uri) as folder:
        (folder / "a.txt").write_text("whole")
        while unreliable.met["lost"] < 4:
            time.sleep(0.05)
    assert read(uri) == {"a.txt": "whole"}
    assert "writing.json" not in Location(uri).list_files()


def test_a_run_that_lost_its_lock_leaves_the_lock_of_the_one_that_took_it(bucket):
    location = Location(f"{bucket}/store")
    with exclusive_writer(location):
        location.write_bytes("writing.json", b"{}")
    assert location.read_bytes("writing.json") == b"{}"


def test_a_store_that_is_busy_slow_and_cut_off_is_written_and_read_whole(bucket, unreliable):
    unreliable.slow = unreliable.busy = unreliable.cut = 0.2
    uri = f"{bucket}/out"
    location = Location(f"{bucket}/files")
    before = retry_count()
    contents = {f"{number}.bin": bytes([number]) * 30_000 for number in range(8)}
    for name, data in contents.items():
        location.write_bytes(name, data)
    assert {name: location.read_bytes(name) for name in location.list_files()} == contents
    publish(uri, a="whole")
    assert read(uri) == {"a.txt": "whole"}
    assert min(unreliable.met[trouble] for trouble in ("slow", "busy", "cut")) > 0
    assert retry_count() - before >= unreliable.met["cut"]


def test_an_object_that_is_denied_is_set_aside_as_a_file_of_others_is(bucket, unreliable):
    location = Location(f"{bucket}/files")
    for name in ("mine.jpg", "theirs.jpg"):
        location.write_bytes(name, b"no image")
    unreliable.denied = ("theirs.jpg",)
    with pytest.raises(PermissionError):
        location.read_bytes("theirs.jpg")
    bad = decode_files(location, ["mine.jpg", "theirs.jpg"], (8, 8)).bad
    assert bad[1] == BadImage("theirs.jpg", "Permission denied")
    assert bad[0].reason != bad[1].reason


def test_permanent_errors_are_raised_at_once_without_credentials(bucket, unreliable, monkeypatch):
    unreliable.busy = 1.0
    monkeypatch.setattr("reidray.storage.retries.LONGEST_WAIT_SECONDS", 0.2)
    with pytest.raises(OSError, match="HTTP status 503") as error:
        Location(bucket).read_bytes("a.txt")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(error.value)
    begun = time.monotonic()
    unreliable.busy = 0.0
    with pytest.raises(FileNotFoundError):
        Location(bucket).read_bytes("a.txt")
    with pytest.raises(UserError, match="s3://no-such-bucket-here/out: cannot be written"):
        publish("s3://no-such-bucket-here/out", a="x")
    assert time.monotonic() - begun < 5


def test_a_store_has_one_lock_by_whatever_links_it_is_reached(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "store")
    link = Location(str(tmp_path / "elsewhere" / "link"))
    with (
        exclusive_writer(Location(str(tmp_path / "store"))),
        pytest.raises(UserError, match="another run is writing it"),
        exclusive_writer(link),
    ):
        pass
    with exclusive_writer(link):
        pass


def test_a_store_has_one_writer_on_a_disk_and_in_a_bucket(bucket, tmp_path):
    for location in (Location(f"{bucket}/store"), Location(str(tmp_path / "store"))):
        with exclusive_writer(location):
            pass
        with exclusive_writer(location):
            pass
