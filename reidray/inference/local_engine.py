"""Run a model over image files in this process, on the CPU or on a GPU."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from reidray.inference.decoder_pool import start_decoders
from reidray.inference.device_buffers import TimedPredictions, download
from reidray.inference.image_batches import (
    BATCH_SIZE,
    BatchPredictions,
    DecodedBatch,
    Digests,
    ImageBatch,
    decode_batches,
    describe_images,
)
from reidray.inference.inference_settings import FULL_PRECISION, InferenceSettings
from reidray.inference.prediction_loop import PreparedNetwork, prepare_network
from reidray.inference.predictions import NO_TIME
from reidray.models import LoadedModel
from reidray.progress import Counter, warn_when_slow
from reidray.retrieval.numerics import single_thread

DECODED_HERE = 16
"""Largest number of batches that this process decodes before other processes would have started."""

MAX_DECODERS = 32
"""Processes that decode 128x64 crops faster than a GPU embeds them. A container may not use as many
CPUs as it sees."""


def embed_in_process(
    model: LoadedModel,
    batches: Sequence[ImageBatch],
    known: Digests | None = None,
    *,
    settings: InferenceSettings = FULL_PRECISION,
    device: str = "cpu",
    num_decoders: int | None = None,
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for batches, in the order of the forward passes; show the progress.

    On a CPU the predictions are those that `embed_with_ray` gives on CPUs, bit by bit. On a GPU
    other processes decode, and this one runs the network.

    Args:
        model: the model.
        batches: the images.
        known: digests of files that need no prediction, under any name.
        settings: precision, and use of mirror images.
        device: `cpu`, or a GPU as `cuda`.
        num_decoders: processes that decode; 0 where this process does. By default one for each
            CPU but one, on a GPU and where there are many images.

    Raises:
        MachineError: a process that decodes died again and again, or the GPU has no room.
    """
    size = model.architecture.size
    torch_device = torch.device(device)
    if num_decoders is None:
        num_decoders = count_decoders(len(batches)) if torch_device.type == "cuda" else 0
    num_images = sum(len(batch.paths) for batch in batches)
    with ExitStack() as stack:
        counter = stack.enter_context(Counter("embedding", total=num_images, unit="images"))
        stack.enter_context(single_thread())
        if num_decoders:
            # The processes begin while CUDA starts and the network goes to the GPU.
            pool = start_decoders(batches, size, known, num_processes=num_decoders)
            decoded = stack.enter_context(pool)
        else:
            decoded = _decode_here(batches, size, known)
        network = prepare_network(model.network, size, settings, torch_device)
        for results in predict_decoded(network, decoded):
            counter.advance(sum(len(each.batch.paths) for each in results))
            yield results


def predict_decoded(
    network: PreparedNetwork, decoded: Iterator[DecodedBatch]
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for decoded batches; the caller computes in one thread.

    Args:
        network: the network.
        decoded: batches with crops of the network's height and width. The crops of a batch may
            change once `batch_size` others are taken.
    """
    in_flight: deque[list[DecodedBatch]] = deque()

    def crops() -> Iterator[list[NDArray[np.uint8]]]:
        while group := list(islice(decoded, network.batch_size // BATCH_SIZE)):
            in_flight.append([replace(batch, crops=batch.crops[:0]) for batch in group])
            yield [batch.crops for batch in group]

    for predicted in download(network.predict(crops())):
        yield _split(in_flight.popleft(), predicted)


def count_decoders(num_batches: int) -> int:
    """Return the processes that decode for a GPU; 0 where they would start too late."""
    if num_batches <= DECODED_HERE:
        return 0
    return max(1, min(num_batches, MAX_DECODERS, len(os.sched_getaffinity(0)) - 1))


def _decode_here(
    batches: Sequence[ImageBatch], size: tuple[int, int], known: Digests | None
) -> Iterator[DecodedBatch]:
    """Yield decoded batches, and warn where one takes long."""
    decoded = decode_batches(batches, size, known)
    for batch in batches:
        with warn_when_slow("reading %s", describe_images([batch])):
            decoded_batch = next(decoded)
        yield decoded_batch


def _split(group: Sequence[DecodedBatch], predicted: TimedPredictions) -> list[BatchPredictions]:
    """Return the predictions of each batch of a group; the first has the time of the group."""
    found, end, timing = [], 0, predicted.timing
    for batch in group:
        start, end = end, end + len(batch.positions)
        found.append(
            batch.with_predictions(predicted.predictions.select(slice(start, end)), timing)
        )
        timing = NO_TIME
    return found
