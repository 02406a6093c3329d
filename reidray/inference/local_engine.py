"""Run a model over image files in this process, on the CPU."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

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
from reidray.inference.prediction_loop import predict
from reidray.inference.predictions import NO_TIME
from reidray.models import LoadedModel
from reidray.models.inference_network import prepare_for_inference
from reidray.progress import warn_when_slow
from reidray.retrieval.numerics import single_thread


def embed_in_process(
    model: LoadedModel,
    batches: Sequence[ImageBatch],
    known: Digests | None = None,
    *,
    settings: InferenceSettings = FULL_PRECISION,
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for a few batches, one batch at a time.

    The predictions are those that `embed_with_ray` gives on CPUs, bit by bit.

    Args:
        model: the model.
        batches: the images.
        known: digests of files that need no prediction, under any name.
        settings: precision, and use of mirror images.
    """
    device = torch.device("cpu")
    network = prepare_for_inference(model.network, device, settings.precision)
    size = (model.architecture.height, model.architecture.width)
    with single_thread():
        decoded = _decode_here(batches, size, known)
        yield from predict_decoded(network, decoded, device, flip=settings.flip)


def predict_decoded(
    network: nn.Module,
    groups: Iterable[Sequence[DecodedBatch]],
    device: torch.device,
    *,
    batch_size: int = BATCH_SIZE,
    flip: bool = False,
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for groups of decoded batches; the caller computes in one thread.

    Args:
        network: network that `prepare_for_inference` returned, on `device`.
        groups: decoded batches of at most `batch_size` crops together, of the network's height and
            width. The crops may change once the next group is taken.
        device: device of the network.
        batch_size: crops in every forward pass.
        flip: whether to average over mirror images.
    """
    in_flight: deque[list[DecodedBatch]] = deque()

    def crops() -> Iterator[list[NDArray[Any]]]:
        for group in groups:
            in_flight.append([replace(batch, crops=batch.crops[:0]) for batch in group])
            yield [batch.crops for batch in group]

    predictions = predict(network, crops(), device, pad_to=batch_size, flip=flip)
    for predicted in download(predictions):
        yield _split(in_flight.popleft(), predicted)


def _decode_here(
    batches: Sequence[ImageBatch], size: tuple[int, int], known: Digests | None
) -> Iterator[list[DecodedBatch]]:
    """Yield decoded batches, one in each group."""
    decoded = decode_batches(batches, size, known)
    for batch in batches:
        with warn_when_slow("reading %s", describe_images([batch])):
            group = [next(decoded)]
        yield group


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
