"""Measure the listing of a folder and of a bucket in shards beside the listing in memory.

Run with `pytest -m benchmark -s tests/benchmarks/scale/test_listing_at_scale.py`. Prints a table
and one JSON line. Each listing runs in a new process and includes the stamps and the check of the
names. The bucket is a server of another process that makes its keys up. It waits `PAGE_SECONDS`
before each answer, as a real store does. `LISTING_NAMES=1000000,5000000` sets the numbers of keys,
and `LISTING_FILES` those of files. The files are empty ones in a folder in memory, if there is one.
"""

import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
from support.key_server import KeyServer

from reidray.data.listing.listing_job import write_listing
from reidray.data.reading.image_folders import find_images
from reidray.scoring.ranking_file import check_names
from reidray.storage.location import Location

NAMES = [int(count) for count in os.environ.get("LISTING_NAMES", "1000000,5000000").split(",")]
FILES = [int(count) for count in os.environ.get("LISTING_FILES", "300000,1500000").split(",")]
PAGE_SECONDS, THREADS = float(os.environ.get("PAGE_SECONDS", "0.02")), 8

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]


def list_in_memory(uri, _):
    location = Location(uri)
    paths = find_images(location).paths
    check_names(paths)
    return len(location.read_stamps(paths)), 1


def list_in_shards(uri, work):
    options = {"with_stamps": True, "check_names": check_names}
    listing = write_listing(Location(uri), Location(work), "gallery", **options)
    return listing.num_images, len(listing.shards)


def list_in_threads(uri, work):
    options = {"with_stamps": True, "check_names": check_names}
    with ThreadPoolExecutor(THREADS) as threads:
        listing = write_listing(Location(uri), Location(work), "gallery", threads.map, **options)
    return listing.num_images, len(listing.shards)


def peak_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(action, uri, work):
    """Return the seconds, the growth of the peak memory in MB, and the numbers of a listing."""
    pa.array(["imports pandas"])
    before, start = peak_megabytes(), time.perf_counter()
    images, shards = action(uri, work)
    return time.perf_counter() - start, peak_megabytes() - before, images, shards


def in_a_new_process(action, uri):
    with (
        tempfile.TemporaryDirectory() as work,
        ProcessPoolExecutor(1, get_context("spawn")) as processes,
    ):
        return processes.submit(measure, action, uri, work).result()


def serve(count, answers):
    with KeyServer(
        count, lambda number: f"set/{number // 20:07}/{number:09}.jpg", seconds=PAGE_SECONDS
    ) as server:
        answers.send(server.uri("/set"))
        answers.recv()


def make_files(folder, count):
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for number in range(count):
        mixed = number * 2_654_435_761 % 2**32
        os.mknod(f"{mixed:010}_c1s1_{number:08}.jpg", dir_fd=here)
    os.close(here)


@pytest.fixture(scope="module")
def rows():
    rows = []
    yield rows
    print(f"\n{'listing':28} {'images':>10} {'seconds':>8} {'images/s':>9} {'MB':>6} {'shards':>7}")
    for row in rows:
        print(
            f"{row['listing']:28} {row['images']:10,} {row['seconds']:8.1f} "
            f"{row['images'] / row['seconds']:9,.0f} {row['megabytes']:6.0f} {row['shards']:7}"
        )
    print(json.dumps({"listing": rows}))


def add_row(rows, name, action, uri, count):
    seconds, grown, images, shards = in_a_new_process(action, uri)
    assert images == count
    row = {"listing": name, "images": images, "seconds": seconds, "megabytes": grown}
    rows.append(row | {"shards": shards})
    print(rows[-1])


@pytest.fixture(scope="module", params=FILES)
def folder(request, tmp_path_factory):
    """Make a folder of empty files; yield it and their number."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else tmp_path_factory.mktemp("files")
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        make_files(folder / "set", request.param)
        yield str(folder / "set"), request.param
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=NAMES)
def served(request):
    """Serve keys from another process; yield their address and their number."""
    context = get_context("fork")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(request.param, there))
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield here.recv(), request.param
    here.send(None)
    server.join()


@pytest.mark.parametrize("action", [list_in_memory, list_in_shards])
def test_a_folder_without_folders(folder, action, rows):
    add_row(rows, f"folder, {action.__name__}", action, *folder)


@pytest.mark.parametrize("action", [list_in_memory, list_in_shards, list_in_threads])
def test_a_bucket_with_a_folder_for_each_person(served, action, rows):
    add_row(rows, f"bucket, {action.__name__}", action, *served)
