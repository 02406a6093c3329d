"""Measure how fast a network gets crops: resident and streamed, beside PyTorch's DataLoader.

Run with `pytest -m benchmark -s tests/benchmarks/test_ingest_speed.py`. Prints tables and one JSON
line for each. All share two CPUs, and the ways take turns, an epoch each.
"""

import json
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import ray
import torch
from PIL import Image
from support.epoch_recorder import EpochRecorder
from support.labels import make_labels
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from reidray.config import (
    AugmentConfig,
    BatchConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainReidConfig,
    ValidationConfig,
)
from reidray.data.ingest.compressed_paths import CompressedPaths
from reidray.data.ingest.image_files import ImageFiles
from reidray.data.ingest.mode import ingest
from reidray.data.layouts import read_manifest
from reidray.data.prefetch import prefetch
from reidray.demo import generate_demo_set
from reidray.models import build_model
from reidray.storage.location import Location
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.tasks.reid.task import ReidTask

IMAGES, PEOPLE, BATCH, EPOCHS = 4096, 64, 64, 3
TIMES = 4  # each image so many times, by as many people: a set as large as Market-1501's
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Crops of 128x64 as JPEG files: their folder, their paths and who is seen."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    generate_demo_set(folder, people=PEOPLE, images=IMAGES)
    table = read_manifest(str(folder)).table
    table = table.filter(pa.compute.greater(table["person"], 0)).combine_chunks()
    paths, people = table["path"].to_pylist(), table["person"].to_numpy()
    return folder, paths * TIMES, np.concatenate([people + 1000 * n for n in range(TIMES)])


@pytest.fixture(scope="module", autouse=True)
def two_cpus():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    torch.set_num_threads(2)
    yield
    ray.shutdown()


class Crops(Dataset):
    """Crops one by one, as the field's tools have them."""

    def __init__(self, folder, paths, size):
        self.folder, self.paths = folder, paths
        self.chain = v2.Compose(
            [
                v2.Resize(size),
                v2.RandomHorizontalFlip(),
                v2.Pad(10),
                v2.RandomCrop(size),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, DEVIATION),
                v2.RandomErasing(0.5),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.folder / self.paths[index]) as image:
            return self.chain(image.convert("RGB"))


def image_files(drawn, size):
    folder, paths, people = drawn
    compressed = CompressedPaths.from_column(pa.array(paths))
    return ImageFiles(Location(str(folder)), compressed, people.astype(np.int64), size)


def labelled(drawn):
    _, paths, people = drawn
    return make_labels(people, np.zeros(len(paths), np.int64))


def configured(size):
    return TrainReidConfig(
        data="-",
        network=NetworkConfig(height=size[0], width=size[1]),
        batch=BatchConfig(people=BATCH // 4, crops=4),
        augment=AugmentConfig(flip=0.5, shift=0.05, erasing=0.5),
    )


def read_task(task, network, epoch):
    """An epoch as the training loop reads it, with the pixels scaled; how many images it had."""
    with closing(prefetch(task.batches(epoch))) as batches:
        return sum(len(network.scale(batch.crops)) for batch in batches)


def test_images_per_second_beside_a_data_loader(drawn):
    size = (256, 128)
    loader = DataLoader(
        Crops(*drawn[:2], size), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    network = build_model("baseline", backbone="resnet_tiny", num_people=PEOPLE * TIMES)
    known = labelled(drawn)
    tasks = {
        way: ReidTask(
            configured(size),
            {"train": known, "val": known},
            ingest(image_files(drawn, size), way).open(),
            DistributedContext(),
        )
        for way in ("resident", "stream")
    }
    ways = {
        "DataLoader, 2 workers": lambda _: sum(len(batch) for batch in loader),
        "resident": lambda epoch: read_task(tasks["resident"], network, epoch),
        "stream": lambda epoch: read_task(tasks["stream"], network, epoch),
    }
    paces = {name: [] for name in ways}
    for epoch in range(1 + EPOCHS):
        for name, way in ways.items():
            start = time.perf_counter()
            count = way(epoch)
            paces[name].append(count / (time.perf_counter() - start))
    best = {name: max(later) for name, (_, *later) in paces.items()}
    print(f"\n{len(drawn[1]):,} JPEGs of 128x64 to 256x128, batches of {BATCH}, 2 CPUs")
    for name, pace in best.items():
        ratio = pace / best["DataLoader, 2 workers"]
        print(f"{name:24} {pace:8,.0f} images/s  {ratio:5.2f} x")
    print(json.dumps({"images_per_second": best}))


@pytest.mark.parametrize("way", ["resident", "stream"])
def test_share_of_a_step_spent_waiting(drawn, way):
    size = (64, 32)
    folder, paths, people = drawn
    drawn = folder, paths[: len(paths) // TIMES], people[: len(paths) // TIMES]
    known = labelled(drawn)
    few = make_labels(known.person_ids[:256], np.arange(256) % 2)
    source = ingest(image_files(drawn, size), way).open()
    network = build_model("vgg_triplet_rgb")
    recorder = EpochRecorder()
    trainer_config = TrainerConfig(
        epochs=EPOCHS,
        seed=0,
        optimizer=OptimizerConfig(),
        validation=ValidationConfig(select_by="mean_ap"),
    )
    fit(
        ReidTask(configured(size), {"train": known, "val": few}, source, DistributedContext()),
        network,
        trainer_config,
        recorder,
    )
    later = recorder.records[1:]
    waits = [record["input_wait"] for record in later]
    pace = max(record["images_per_second"] for record in later)
    weights = sum(p.numel() for p in network.parameters())
    print(f"\n{way}, 64x32, {weights:,} weights: {pace:,.0f} images/s, waits {max(waits):.1%}")
    print(json.dumps({"way": way, "images_per_second": pace, "input_wait": max(waits)}))


@ray.remote(num_cpus=0.5)
class Reader:
    """A training process that only reads."""

    def own_megabytes(self):
        """Memory of this process alone; what it maps of the object store is not its own."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000

    def read(self, crops, batches):
        for group in crops.open().read(batches):
            group.crops.sum()


def test_memory_of_a_further_worker(drawn):
    size = (256, 128)
    files = image_files(drawn, size)
    resident = ingest(files, "resident")
    batches = np.array_split(np.random.default_rng(0).permutation(resident.indices), 64)
    readers = [Reader.remote() for _ in range(3)]
    ray.get([reader.read.remote(resident, batches[:1]) for reader in readers])
    before = ray.get([reader.own_megabytes.remote() for reader in readers])
    ray.get([reader.read.remote(resident, batches) for reader in readers])
    after = ray.get([reader.own_megabytes.remote() for reader in readers])
    taken = max(b - a for a, b in zip(before, after, strict=True))
    size_of_set = files.decoded_bytes / 1e6
    print(f"\na set of {size_of_set:,.0f} MB, {taken:.1f} MB a worker: {taken / size_of_set:.1%}")
    print(json.dumps({"set_megabytes": size_of_set, "worker_megabytes": taken}))


def held_megabytes():
    """Private memory of this process and of all that it started, and Ray's shared memory."""
    here = psutil.Process()
    private = sum(p.memory_full_info().uss for p in [here, *here.children(recursive=True)])
    shared = sum(f.stat().st_blocks * 512 for f in Path("/dev/shm").glob("plasma*"))
    return (private + shared) / 1e6


def test_memory_of_a_stream_of_a_million_rows(drawn):
    folder, paths, _ = drawn
    count = 1_000_000
    repeated = pa.array(paths).take(pa.array(np.arange(count) % len(paths)))
    compressed = CompressedPaths.from_column(repeated)
    files = ImageFiles(Location(str(folder)), compressed, np.arange(count) // 64, (64, 32))
    source = ingest(files, "stream").open()
    rows = np.random.default_rng(0).permutation(count)
    batches = np.array_split(rows, count // 256)
    shares, start = {}, time.perf_counter()
    for number, _ in enumerate(source.read(batches), 1):
        share = 100 * number // len(batches)
        if share % 10 == 0 and share not in shares:
            shares[share] = held_megabytes()
            print(f"{share:4} %  {shares[share]:8,.0f} MB", flush=True)
    pace = count / (time.perf_counter() - start)
    print(f"{count:,} rows, {pace:,.0f} images/s")
    print(json.dumps({"megabytes": shares, "images_per_second": pace}))
