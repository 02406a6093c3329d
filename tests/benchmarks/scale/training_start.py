"""Measure the start of a re-ID training on a manifest of millions of rows, and its planning.

    uv run tests/benchmarks/scale/training_start.py --rows 2000000 20000000

The manifest lies in Parquet shards of sorted paths; of 20 rows of a person each, 1 in 1,000 is a
distractor. The steps are those of a training that streams its images: read the manifest, check,
split and label it, give the paths to tasks, and plan two epochs in a training process. No image
exists: the tasks that would look at them do not run, and one image in a million counts as bad.
Memory is what no other process shares, sampled 50 times a second from outside: files and objects of
Ray that are mapped do not count. The script prints the stages, and the sum for a node that holds
the driver, one training process and the objects, and a JSON line.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as papq
import ray

from reidray.config import AugmentConfig, BatchConfig, NetworkConfig, TrainReidConfig
from reidray.data.ingest.stream import StreamingCrops
from reidray.data.stored_rows import release_freed_memory
from reidray.training.distributed_context import DistributedContext
from reidray.training.execution.engine import TrainingPlan
from reidray.training.execution.ray_trainer import RayEngine
from reidray.training.execution.resources import Resources
from reidray.training.orchestration import build_experiment, decode_images
from reidray.training.tasks.reid.task import ReidTask

IMAGES_PER_PERSON, DISTRACTORS, SHARD_ROWS = 20, 1000, 1_000_000
STORE_BYTES, SAMPLES_A_SECOND = 3_000_000_000, 50


class MemorySampler:
    """Sample the memory of the driver and of Ray's workers below it, in a process of its own."""

    def __init__(self):
        self.peaks = multiprocessing.Array("q", 3)
        arguments = (os.getpid(), self.peaks)
        self._process = multiprocessing.Process(target=sample, args=arguments, daemon=True)
        self._process.start()

    def take(self):
        """Return the peaks in MB since the last call: driver, largest worker, shared objects."""
        time.sleep(2 / SAMPLES_A_SECOND)
        while not self.peaks[0]:
            time.sleep(1 / SAMPLES_A_SECOND)
        peaks = [value / 2**10 for value in self.peaks]
        self.peaks[:] = [0, 0, 0]
        return dict(zip(("driver_mb", "worker_mb", "shared_mb"), map(round, peaks), strict=True))

    def stop(self):
        """Stop sampling."""
        self._process.terminate()


def sample(driver, peaks):
    """Keep the peaks of the driver, of its largest worker, and of the objects that one maps."""
    count, workers = 0, []
    while True:
        if count % SAMPLES_A_SECOND == 0:
            workers = ray_workers(driver)
        own, found = read_status(driver), [read_status(worker) for worker in workers]
        largest = max((private for private, _ in found), default=0)
        shared = max(mapped for _, mapped in (own, *found))
        for place, value in enumerate((own[0], largest, shared)):
            peaks[place] = max(peaks[place], value)
        count += 1
        time.sleep(1 / SAMPLES_A_SECOND)


def ray_workers(driver):
    """Return the ids of the processes of Ray below the driver that run its functions."""
    try:
        below = psutil.Process(driver).children(recursive=True)
        return [each.pid for each in below if each.name().startswith("ray::")]
    except psutil.Error:
        return []


def read_status(process):
    """Return the memory in kB that a process holds alone, and that it maps of shared memory."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return int(sizes.get("RssAnon", 0)), int(sizes.get("RssShmem", 0))


class Stages:
    """Measure stages: seconds, CPU-seconds of this process, and peaks of memory."""

    def __init__(self, sampler):
        self.rows, self._sampler = [], sampler
        self.end("start of Python, PyTorch and Ray")

    def end(self, name, **more):
        """Add the stage that ends here."""
        now = time.perf_counter(), time.process_time()
        wall, cpu = (0, 0) if not self.rows else np.subtract(now, self._before)
        row = {"stage": name, "seconds": round(wall, 2), "cpu_s": round(cpu, 2)} | more
        self.rows.append(row | self._sampler.take())
        values = "".join(f"{value:>11}" for value in list(self.rows[-1].values())[1:])
        print(f"{name:52}{values}", flush=True)
        self._before = time.perf_counter(), time.process_time()


@ray.remote(num_cpus=0)
class TrainingProcess:
    """Plan epochs as a training process does."""

    def __init__(self, settings):
        job = ray.get(settings["job"])
        self._task = ReidTask(job.config, job.labels, job.crops.open(), DistributedContext())

    def steps(self):
        """Return the steps of an epoch."""
        return self._task.steps_per_epoch

    def plan_first(self, epoch):
        """Plan the first batch of an epoch; return the seconds and the CPU-seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._batches = self._task._plan_batches(epoch)
        next(self._batches)
        return self._since(wall, cpu)

    def plan_others(self):
        """Plan the other batches of the epoch."""
        wall, cpu = time.perf_counter(), time.process_time()
        planned = 1 + sum(1 for _ in self._batches)
        assert planned == self._task.steps_per_epoch
        return self._since(wall, cpu)

    def _since(self, wall, cpu):
        return {
            "seconds": round(time.perf_counter() - wall, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
        }


class EngineWithoutImages(RayEngine):
    """Give the paths of images to tasks, which do not look at the images."""

    def __init__(self, stages):
        self._stages = stages

    def plan(self, *_):
        """Plan one training process."""
        return TrainingPlan("stream", Resources(False, 1))

    def decode(self, files, _):
        """Put the images into the object store, and count one in a million as bad."""
        crops = give_files_to_tasks(files)
        self._stages.end("paths and groups of images in the object store")
        return crops


def start(folder, output, sampler):
    """Start a training on a manifest, and plan its epochs."""
    stages = Stages(sampler)
    config = TrainReidConfig(
        data=str(folder),
        output=str(output),
        network=NetworkConfig(name="baseline", height=32, width=16),
        batch=BatchConfig(people=16, crops=4),
        augment=AugmentConfig(),
        use_gpu="no",
    )
    experiment = build_experiment(config)
    stages.end("read the manifest, check, split, labels, network")
    decoded = decode_images(experiment, EngineWithoutImages(stages))
    del experiment
    release_freed_memory()  # as `train_experiment` does
    stages.end("labels of images that decode, in the object store")
    job = decoded.experiment.train_job(decoded.crops, decoded.plan.resources, None)
    settings = {"job": ray.put(job)}
    stages.end("fingerprint, job in the object store")
    worker = TrainingProcess.remote(settings)
    steps = ray.get(worker.steps.remote())
    stages.end("start of a training process")
    for epoch in (0, 1):
        stages.end(f"first batch of epoch {epoch}", **ray.get(worker.plan_first.remote(epoch)))
        stages.end(f"other batches of epoch {epoch}", **ray.get(worker.plan_others.remote()))
    rows = stages.rows
    largest = {name: max(row[name] for row in rows) for name in ("driver_mb", "worker_mb")}
    planning = {
        name: round(sum(row[name] for row in rows[1:5]), 1) for name in ("seconds", "cpu_s")
    }
    return {
        "steps": steps,
        "fingerprint": job.training_data,
        **planning,
        **largest,
        "shared_mb": rows[-1]["shared_mb"],
        "node_mb": max(sum(list(row.values())[3:]) for row in rows),
        "stages": rows,
    }


def give_files_to_tasks(files):
    """Put the images and their groups into the object store, as the check of a stream does.

    Returns:
        The crops, of which one in a million does not decode.
    """
    groups = ray.put(pa.table({"indices": files.split_into_groups()}))
    decoded = np.ones(len(files.paths), dtype=np.bool_)
    decoded[7::1_000_000] = False
    del groups
    return StreamingCrops(ray.put(files.without_groups()), decoded, ())


def write_shards(folder, rows):
    """Write a manifest of sorted paths as shards, such as a listing makes them."""
    for start in range(0, rows, SHARD_ROWS):
        numbers = np.arange(start, min(start + SHARD_ROWS, rows))
        person, image = numbers // IMAGES_PER_PERSON + 1, numbers % IMAGES_PER_PERSON
        paths = [
            f"crops/{p:08}/{p:08}_{n:06}_c{n % 6}s1.jpg"
            for p, n in zip(person.tolist(), image.tolist(), strict=True)
        ]
        table = pa.table(
            {
                "path": paths,
                "split": pa.DictionaryArray.from_arrays(np.zeros(len(paths), np.int8), ["train"]),
                "person": np.where(numbers % DISTRACTORS == 1, 0, person).astype(np.int32),
                "camera": (image % 6).astype(np.int8),
            }
        )
        papq.write_table(table, folder / f"{start // SHARD_ROWS:05}.parquet")


def measure(rows, folder):
    """Measure a number of rows in this process, which has measured nothing else."""
    sampler = MemorySampler()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    ray.init(
        num_cpus=os.cpu_count(),
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        return {"rows": rows} | start(folder / "shards", folder / "run", sampler)
    finally:
        ray.shutdown()
        sampler.stop()


def main():
    """Measure each number of rows in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000])
    parser.add_argument("--folder", default=None, help="folder with room for the shards")
    arguments = parser.parse_args()
    results = []
    for rows in arguments.rows:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            (folder / "shards").mkdir()
            write_shards(folder / "shards", rows)
            columns = ("seconds", "CPU-s", "driver MB", "worker MB", "shared MB")
            print(f"{rows:<52,}{''.join(f'{name:>11}' for name in columns)}", flush=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
                results.append(processes.submit(measure, rows, folder).result())
        finally:
            shutil.rmtree(folder)
    print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
