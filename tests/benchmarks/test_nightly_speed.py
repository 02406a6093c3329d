"""Measure nightly runs: the first, the next, and beside a bare loop.

Run with `pytest -m benchmark -s tests/benchmarks/test_nightly_speed.py`. Prints a table and a JSON
line for each.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support.paths import ROOT

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.images.decoding import decode_files
from reidray.data.reading.image_folders import list_images
from reidray.demo import generate_demo_set
from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network
from reidray.storage.location import Location

DRAWN, GALLERY, QUERIES, CHANGED = 2000, 20_000, 500, 200

SIZES = {
    "resnet_small": {"backbone": "resnet_small", "feature_size": 256, "height": 96, "width": 48},
    "resnet50": {"backbone": "resnet50", "feature_size": 512, "height": 128, "width": 64},
}
"""A network that suits a CPU, and one of the papers."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """20,500 different JPEG files of 128x64, and models of them that have learned nothing."""
    root = tmp_path_factory.mktemp("nightly")
    generate_demo_set(root / "drawn", people=50, images=DRAWN)
    drawn = [
        (root / "drawn" / name).read_bytes() for name in list_images(Location(str(root / "drawn")))
    ]
    for folder, count in (("gallery", GALLERY), ("queries", QUERIES)):
        (root / folder).mkdir()
        for number in range(count):
            # What follows the end of a JPEG is no part of the picture, and makes it another file.
            data = drawn[number % len(drawn)] + f"{folder} {number}".encode()
            (root / folder / f"{number:06d}.jpg").write_bytes(data)
    for name, size in SIZES.items():
        torch.manual_seed(0)
        architecture = build_architecture("apr", num_people=500, schema=PEDESTRIAN_SCHEMA, **size)
        (root / name).mkdir()
        save_model(
            root / name,
            build_network(architecture),
            architecture,
            ModelCard(metric="cosine"),
            "# Model\n",
        )
    return root


def score(root, model, *more):
    """Seconds that the job takes from start to end, and what it says."""
    command = [sys.executable, ROOT / "jobs" / "score_nightly.py", "--model", root / model]
    command += ["--queries", root / "queries", "--gallery", root / "gallery", *more]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("model", SIZES)
def test_a_second_run_with_one_image_in_a_hundred_new(root, model):
    where = (model, "--output", root / "out", "--store", root / f"store of {model}")
    time.sleep(2.5)  # until the files are old enough to be known by their times
    first, told = score(root, *where)
    unchanged, _ = score(root, *where)
    for number in range(CHANGED):
        file = root / "gallery" / f"{number:06d}.jpg"
        file.write_bytes(file.read_bytes() + b" changed")
    second, again = score(root, *where)
    assert (told["embedded"], again["embedded"]) == (GALLERY + QUERIES, CHANGED)
    figures = {
        "model": model,
        "first_run_s": round(first, 1),
        "second_run_s": round(second, 1),
        "share": round(second / first, 3),
        "nothing_new_s": round(unchanged, 1),
        "first_stages": told["stages"],
        "second_stages": again["stages"],
    }
    print(f"\n{model}: first nightly run {first:.1f} s, nothing new {unchanged:.1f} s")
    print(f"one in a hundred new {second:.1f} s = {second / first:.1%}")
    print(json.dumps(figures))


LOOP = """
import sys, time, numpy as np, torch
from reidray.models import load_model
torch.set_num_threads(int(sys.argv[2]))
network = load_model(sys.argv[1] + "/resnet_small").network
batches = torch.from_numpy(np.load(sys.argv[1] + "/crops.npy")).permute(0, 3, 1, 2).split(64)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
with torch.inference_mode():
    for _ in range(4):
        for batch in batches:
            network(batch)
print(4 * sum(map(len, batches)) / (time.perf_counter() - start))
"""


def bare_loop(root, processes):
    """Images a second of all processes together, on two cores."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", LOOP, str(root), str(2 // processes)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    loops = [subprocess.Popen(command, env=environment, **pipes) for _ in range(processes)]
    for loop in loops:
        loop.stdout.readline()
    for loop in loops:
        loop.stdin.write("\n")
        loop.stdin.flush()
    return sum(float(loop.communicate()[0]) for loop in loops)


def test_steady_scoring_beside_a_bare_loop_over_decoded_crops(root):
    """The loop has its crops decoded in memory; the job reads, decodes and resizes as it goes."""
    paths = [f"{number:06d}.jpg" for number in range(64 * 20)]
    crops = decode_files(Location(str(root / "gallery")), paths, (96, 48)).crops
    np.save(root / "crops.npy", crops)
    # One process with two threads, and two with one: the faster is the one to beat. Before and
    # after, as the pace of a shared machine changes from minute to minute.
    before = max(bare_loop(root, processes=1), bare_loop(root, processes=2))
    seconds, told = score(root, "resnet_small", "--output", root / "alone")
    after = max(bare_loop(root, processes=1), bare_loop(root, processes=2))
    best = (before + after) / 2
    steady = told["images_per_second_steady"]
    fixed = seconds - (GALLERY + QUERIES) / steady
    figures = {
        "bare_loop": round(best),
        "steady": round(steady),
        "share": round(steady / best, 3),
        "seconds": round(seconds, 1),
        "fixed_costs_s": round(fixed, 1),
    }
    print(f"\nbare loop {best:,.0f} images/s, steady {steady:,.0f} = {steady / best:.0%}")
    print(f"start to end {seconds:.1f} s, of which fixed {fixed:.1f} s")
    print(json.dumps(figures))
