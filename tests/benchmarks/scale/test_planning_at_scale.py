"""Measure the planning of an epoch of P x K batches, and the reading of its manifest.

Run with `pytest -m benchmark -s tests/benchmarks/scale/test_planning_at_scale.py`. Prints a table
and one JSON line. Each measurement runs in a new process; MB are the growth of its peak memory
beyond its imports and the images that it is given. `PLANNING_IMAGES=20000000` sets the numbers of
images, of which 20 show each person. The planning of versions that drew a random number for every
person for each batch is measured beside it, on the first batches of an epoch.
"""

import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from reidray.config import TrainReidConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.layouts import read_manifest
from reidray.data.sampling.identity_batches import count_identity_batches, identity_batches
from reidray.data.sampling.person_index import PersonIndex
from reidray.training.tasks.reid.definition import label_people

IMAGES = [int(n) for n in os.environ.get("PLANNING_IMAGES", "2000000,20000000").split(",")]
IMAGES_PER_PERSON, PEOPLE, CROPS, WORKERS = 20, 16, 4, 8
SHARD_ROWS, NOISE_BATCHES = 1_000_000, 300

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


class Stages:
    """Measure stages of a process: seconds, CPU-seconds and growth of the peak memory."""

    def __init__(self):
        self.rows = []
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
        self.before = memory("VmRSS")
        self.restart()

    def restart(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def end(self, stage):
        seconds, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        grown = memory("VmHWM") - self.before
        self.rows.append({"stage": stage, "seconds": seconds, "cpu": cpu, "megabytes": grown})
        self.restart()


def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def draw_ids(images):
    """Return the person of each image, (N,) int64, in random order."""
    return np.random.default_rng(0).integers(1, images // IMAGES_PER_PERSON + 1, images)


def plan(images, workers):
    """Plan two epochs as one of some workers does."""
    person_ids = draw_ids(images)
    stages = Stages()
    people = PersonIndex.from_person_ids(person_ids)
    steps = count_identity_batches(people, PEOPLE, CROPS)
    stages.end("index of people, steps of an epoch")
    for epoch in range(2):
        batches = identity_batches(
            people, PEOPLE, CROPS, seed=0, epoch=epoch, rank=workers - 1, world_size=workers
        )
        next(batches)
        stages.end(f"first batch of epoch {epoch}")
        assert 1 + sum(1 for _ in batches) == steps
        stages.end(f"other batches of epoch {epoch}")
    return stages.rows


def plan_with_noise_for_everybody(images):
    """Draw the people of a few batches in proportion to their pieces, by noise for everybody."""
    counts = np.bincount(draw_ids(images))[1:]
    random, stages = np.random.default_rng(0), Stages()
    left = -(-counts // CROPS)
    batches = -(-int(left.sum()) // PEOPLE)
    for _ in range(NOISE_BATCHES):
        with np.errstate(divide="ignore"):
            weight = np.log(left) + random.gumbel(size=len(left))
        chosen = np.argpartition(-weight, PEOPLE - 1)[:PEOPLE]
        left[chosen] -= 1
    stages.end("all batches, computed from the first ones")
    for row in stages.rows:
        row["seconds"] *= batches / NOISE_BATCHES
        row["cpu"] *= batches / NOISE_BATCHES
    return stages.rows


def read(folder):
    """Read a manifest in shards, and label its images as a training does."""
    stages = Stages()
    manifest = read_manifest(folder)
    stages.end("manifest from shards")
    _, labels = label_people(TrainReidConfig(data=folder, output="none"), manifest)
    assert isinstance(labels["train"], CropLabels)
    assert labels["train"].num_people > labels["val"].num_people
    stages.end("split, labels, index of people")
    assert manifest.fingerprint
    stages.end("fingerprint")
    return stages.rows


def write_shards(folder, images):
    """Write a manifest of sorted paths as shards, such as a listing makes them."""
    people = images // IMAGES_PER_PERSON
    for start in range(0, images, SHARD_ROWS):
        rows = np.arange(start, min(start + SHARD_ROWS, images))
        person, number = rows // IMAGES_PER_PERSON + 1, rows % IMAGES_PER_PERSON
        paths = [
            f"crops/{p:08}/{p:08}_{n:06}_c{n % 6}s1.jpg"
            for p, n in zip(person, number, strict=True)
        ]
        table = pa.table(
            {
                "path": paths,
                "split": pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int8), ["train"]),
                "person": person.astype(np.int32),
                "camera": (number % 6).astype(np.int8),
            }
        )
        papq.write_table(table, Path(folder) / f"{start // SHARD_ROWS:05}.parquet")
    return people


def in_a_new_process(action, *arguments):
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        return processes.submit(action, *arguments).result()


@pytest.fixture(scope="module")
def table():
    rows = []
    yield rows
    print(f"\n{'images':>10} {'what':38} {'stage':42} {'seconds':>9} {'CPU-s':>9} {'MB':>6}")
    for row in rows:
        print(
            f"{row['images']:10,} {row['what']:38} {row['stage']:42} "
            f"{row['seconds']:9.2f} {row['cpu']:9.2f} {row['megabytes']:6.0f}"
        )
    print(json.dumps({"planning": rows}))


@pytest.mark.parametrize("images", IMAGES)
def test_planning(images, table):
    def add(what, rows):
        table.extend({"images": images, "what": what, **row} for row in rows)

    add("one worker", in_a_new_process(plan, images, 1))
    add(f"one of {WORKERS} workers", in_a_new_process(plan, images, WORKERS))
    add("noise for everybody", in_a_new_process(plan_with_noise_for_everybody, images))
    with tempfile.TemporaryDirectory() as folder:
        in_a_new_process(write_shards, folder, images)
        add("driver", in_a_new_process(read, folder))
