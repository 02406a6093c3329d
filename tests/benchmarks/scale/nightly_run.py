"""Measure nightly runs of millions of images whose files and network are generators.

    uv run tests/benchmarks/scale/nightly_run.py --rows 1000000 5000000

A run lists, joins with its store, embeds, writes, ranks and publishes, with the engine ray-data.
Two steps are replaced at their interfaces: the listing of a folder, which tasks draw up, and the
decoding and embedding in an actor, which draws embeddings, as fast as it can or at the pace of a
model. Each number of rows has a first night and a second one with 1 % of new files. The script
prints the seconds of the stages, the peak memory of this process and of the largest worker beside
it, without the pages of the object store, and a JSON line.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from reidray.config.scoring import ScoreConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.listing.image_listing import SCHEMA, SHARD_ROWS, ImageListing, ListingShard
from reidray.inference.distributed import ray_data_engine
from reidray.inference.distributed.prediction_rows import prediction_rows
from reidray.inference.image_batches import BatchPredictions
from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network
from reidray.scoring import nightly_run
from reidray.scoring.stages import nightly_images

QUERIES, SIZE, NEW_SHARE = 1000, 256, 0.01
FILES_IN_FOLDER = 10_000
PACE_VARIABLE = "REIDRAY_BENCHMARK_PACE"


class DrawingActor:
    """Draw the predictions of images in place of reading and embedding them, at a pace."""

    def __init__(self, inputs):
        self._inputs, self._work = inputs, ray.get(inputs.work)
        self._pace = float(os.environ.get(PACE_VARIABLE, "inf"))

    def __call__(self, table):
        """Yield the receipts of some items."""
        for item in table["item"].to_pylist():
            start = time.perf_counter()
            batches = self._work.read(self._work.items[item])
            results = [self._predict(batch) for batch in batches]
            rows = prediction_rows(results, self._inputs.shape)
            time.sleep(max(0, len(rows) / self._pace - (time.perf_counter() - start)))
            yield pa.table({"receipt": [self._work.write(rows)]})

    def _predict(self, batch):
        predictions = self._inputs.shape.empty(len(batch.paths))
        random = np.random.default_rng(batch.indices[0])
        random.standard_normal(dtype=np.float32, out=predictions.embeddings)
        predictions.attribute_labels[:] = 0
        predictions.uncertainty[:] = 0.5
        names = zip(batch.paths, batch.stamps, strict=True)
        digests = tuple(hashlib.sha256("\0".join(name).encode()).digest() for name in names)
        return BatchPredictions(batch, digests, np.arange(len(batch.paths)), predictions, {}, 0)


def write_listing(images, work, name, run_tasks, *, rows, night, **_):
    """Write a listing of images that exist in name alone."""
    count = QUERIES if name == "query" else rows
    starts = range(0, count, SHARD_ROWS)
    task = partial(write_shard, work=work, name=name, count=count, night=night)
    return ImageListing(images, work, tuple(run_tasks(task, starts)), {})


def write_shard(start, work, name, count, night):
    """Write one shard; of the second night one file in a hundred has changed."""
    numbers = range(start, min(start + SHARD_ROWS, count))
    paths = [f"day{n // FILES_IN_FOLDER:06d}/{n:09d}.jpg" for n in numbers]
    is_new = [night > 0 and hash((n, night)) % round(1 / NEW_SHARE) == 0 for n in numbers]
    stamps = [f"1f40-17a{night if new else 0}b2c3d4e5f607" for new in is_new]
    file = f"listing/{name}-{start // SHARD_ROWS:06d}.parquet"
    data = pa.BufferOutputStream()
    pq.write_table(pa.table({"path": paths, "stamp": stamps}, schema=SCHEMA), data)
    work.write_bytes(file, data.getvalue().to_pybytes())
    return ListingShard(file, start, len(paths), paths[0], paths[-1])


class MemoryPeaks:
    """Sample the memory of this process and of the workers of Ray, without shared pages."""

    def __init__(self):
        self.driver = self.worker = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _sample(self):
        while not self._ended.wait(0.25):
            self.driver = max(self.driver, private_bytes(psutil.Process()))
            for process in psutil.process_iter(["cmdline"]):
                if (process.info["cmdline"] or [""])[0].startswith("ray::"):
                    self.worker = max(self.worker, private_bytes(process))


def private_bytes(process):
    """Return the resident memory of a process that is not shared."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return memory.rss - memory.shared


def file_size(file):
    """Return the bytes of a file."""
    return file.stat().st_size


def save_network(folder):
    """Save the model that gives the run its schema and sizes."""
    sizes = {"backbone": "resnet_small", "feature_size": SIZE, "height": 32, "width": 16}
    architecture = build_architecture("apr", num_people=500, schema=PEDESTRIAN_SCHEMA, **sizes)
    folder.mkdir()
    network = build_network(architecture)
    save_model(folder, network, architecture, ModelCard(metric="cosine"), "# Model\n")


def score(root, rows, night, settings):
    """Score one night, and return its figures."""
    nightly_images.write_listing = partial(write_listing, rows=rows, night=night)
    config = ScoreConfig(
        model=str(root / "model"),
        queries=str(root / "queries"),
        gallery=str(root / "gallery"),
        output=str(root / "out"),
        store=str(root / "store"),
        engine="ray-data",
        **settings,
    )
    start = time.perf_counter()
    with MemoryPeaks() as peaks:
        summary = nightly_run.run_nightly(config)
    seconds = time.perf_counter() - start
    return {
        "rows": rows,
        "night": night + 1,
        "embedded": summary["embedded"],
        "seconds": round(seconds, 1),
        **{f"{stage}_s": value for stage, value in summary["stages"].items()},
        "driver_mb": round(peaks.driver / 2**20),
        "worker_mb": round(peaks.worker / 2**20),
        "store_gb": round(
            sum(f.stat().st_size for f in (root / "store").rglob("*.parquet")) / 1e9, 2
        ),
    }


def main():
    """Measure the nights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", default=None, help="folder with room for the stores")
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--distractor-scores", action="store_true")
    parser.add_argument("--attribute-neighbours", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="embed everything anew in each night")
    parser.add_argument("--pace", type=float, help="images/s of a worker, as of a real network")
    arguments = parser.parse_args()
    if arguments.pace is not None:
        os.environ[PACE_VARIABLE] = str(arguments.pace)
    ray_data_engine.DecodingActor = DrawingActor
    os.environ["RAY_DATA_LOG_LEVEL"] = "ERROR"
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    names = ("distractor_scores", "attribute_neighbours", "full")
    settings = {name: getattr(arguments, name) for name in names}
    results = []
    for rows in arguments.rows:
        root = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            save_network(root / "model")
            for night in range(arguments.nights):
                results.append(score(root, rows, night, settings))
                print(" ".join(f"{key}={value}" for key, value in results[-1].items()), flush=True)
        finally:
            shutil.rmtree(root)
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
