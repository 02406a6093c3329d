"""Measure embedding, with and without reading files, beside a bare bf16 loop."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import Reach, Row, default_cudnn, least_seconds

from reidray.data.reading.image_folders import list_images
from reidray.inference.device_buffers import download
from reidray.inference.image_batches import ImageSet, plan_batches
from reidray.inference.inference_settings import choose_settings
from reidray.inference.local_engine import embed_in_process
from reidray.inference.prediction_loop import prepare_network
from reidray.inference.predictions import LoopTiming
from reidray.models import ModelCard, build_architecture, load_model, save_model
from reidray.models.factory import build_network
from reidray.storage.location import Location


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Describe embeddings to measure.

    Attributes:
        backbone: the backbone of the network `apr`.
        size: height and width of the crops.
        count: images to embed from files, and from memory.
        least: the least share of the bare loop's images per second, with files.
        most_wanted: images per second that suffice, with files, or as many as the cores decode.
        bare_batches: images in a batch of the bare loop, whose best pace counts.
        bare_steps: steps of the bare loop between two readings of the clock.
    """

    backbone: str
    size: tuple[int, int]
    count: int
    least: float | None = None
    most_wanted: float | None = None
    bare_batches: tuple[int, ...] = (64, 512)
    bare_steps: int = 20


def save_untrained_model(folder, backbone, size):
    """Write a model directory of a network with random weights, and return the loaded model."""
    torch.manual_seed(0)
    architecture = build_architecture("apr", backbone=backbone, height=size[0], width=size[1])
    folder.mkdir()
    network = build_network(architecture)
    save_model(folder, network, architecture, ModelCard(metric="cosine"), "# Model\n")
    return load_model(str(folder))


def measure_embedding(embedding, model, folder, device):
    """Yield the rows of a model: files read, decoded and resized; and crops in memory.

    Args:
        embedding: what to measure.
        model: a model of its backbone and size.
        folder: folder of JPEG files.
        device: device of the network.
    """
    height, width = embedding.size
    name = f"embed {embedding.backbone} {height}x{width}"
    with default_cudnn():
        bare = {
            batch: bare_images_per_second(model, device, batch, embedding.bare_steps)
            for batch in embedding.bare_batches
        }
    details = {f"bare batch {batch}": pace for batch, pace in bare.items()}
    best, limit = max(bare.values()), decode_limit(folder, embedding.size)
    reach = None if embedding.least is None else Reach("at least", embedding.least)
    if embedding.most_wanted is not None:
        reach = Reach("at least", min(embedding.most_wanted, limit), "images/s")
        details["reach is"] = "the wish" if embedding.most_wanted <= limit else "the decode limit"
    from_files, timing = files_per_second(model, folder, device, embedding.count)
    details["decode limit of the cores"] = limit
    details["waited for input"] = timing.input_wait_seconds / timing.seconds
    yield Row(
        name=f"{name}, JPEG files",
        unit="images/s",
        ours=from_files,
        bare=best,
        reach=reach,
        details=details,
    )
    yield Row(
        name=f"{name}, decoded crops",
        unit="images/s",
        ours=crops_per_second(model, device, embedding.count),
        bare=best,
    )


def files_per_second(model, folder, device, count):
    """Return the steady pace of the local engine over files, that of the second half, and times."""
    location = Location(str(folder))
    images = ImageSet("images", location, tuple(list_images(location)))
    batches = plan_batches(images, np.resize(np.arange(len(images.paths)), count))
    settings = choose_settings("auto", flip=False, on_gpu=device.type == "cuda")
    done, marks, timing = 0, [], LoopTiming()
    for results in embed_in_process(model, batches, settings=settings, device=str(device)):
        done += sum(len(result.positions) for result in results)
        timing = sum((result.timing for result in results), timing)
        marks.append((done, time.perf_counter()))
    assert done == count, f"{count - done} of {count} images have no embedding"
    return _second_half(marks), timing


def crops_per_second(model, device, count):
    """Return the steady pace of the embedding loop over crops in main memory."""
    options = model.architecture
    random = np.random.default_rng(0)
    size = options.height, options.width
    settings = choose_settings("auto", flip=False, on_gpu=device.type == "cuda")
    network = prepare_network(model.network, size, settings, device)
    crops = random.integers(0, 256, (network.batch_size, *size, 3), dtype=np.uint8)
    batches = ([crops] for _ in range(-(-count // network.batch_size)))
    done, marks = 0, []
    for found in download(network.predict(batches)):
        done += len(found.predictions)
        marks.append((done, time.perf_counter()))
    return _second_half(marks)


def bare_images_per_second(model, device, batch, steps):
    """Return the pace of plain PyTorch on one batch of pixels: channels-last, bf16."""
    options = model.architecture
    network = build_network(options).eval().to(device, memory_format=torch.channels_last)
    crops = torch.randint(
        0, 256, (batch, 3, options.height, options.width), dtype=torch.uint8, device=device
    ).contiguous(memory_format=torch.channels_last)

    def run():
        for _ in range(steps):
            network(crops)

    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        (seconds,) = least_seconds(device, run, runs=3)
    return batch * steps / seconds


def decode_limit(folder, size, seconds=1.5):
    """Return the images that all cores read, decode and resize in a second."""
    command = [sys.executable, str(Path(__file__).with_name("decode_limit.py"))]
    command += [str(folder), *map(str, size), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return float(done.stdout)


def _second_half(marks):
    """Return the images per second from the middle of (images done, seconds) to the last."""
    (first, start), (last, end) = marks[len(marks) // 2 - 1], marks[-1]
    return (last - first) / (end - start)
