"""Run a model over image files in this process, on the CPU."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reidray.inference.image_batches import (
    BATCH_SIZE,
    BatchPredictions,
    DecodedBatch,
    Digests,
    ImageBatch,
    decode_batches,
    describe_images,
)
from reidray.inference.prediction_loop import predict, prepare_for_inference
from reidray.models import LoadedModel
from reidray.progress import warn_when_slow
from reidray.retrieval.numerics import single_thread


def embed_in_process(
    model: LoadedModel, batches: Sequence[ImageBatch], known: Digests | None = None
) -> Iterator[list[BatchPredictions]]:
    """Yield the predictions for a few batches, one batch at a time.

    The predictions are those that `embed_with_ray` gives on CPUs, bit by bit.

    Args:
        model: the model.
        batches: the images.
        known: digests of files that need no prediction, under any name.
    """
    device = torch.device("cpu")
    network = prepare_for_inference(model.network, device)
    size = (model.architecture.height, model.architecture.width)
    with single_thread():
        decoded = decode_batches(batches, size, known)
        for batch in batches:
            with warn_when_slow("reading %s", describe_images([batch])):
                decoded_batch = next(decoded)
            yield predict_decoded(network, [decoded_batch], device)


def predict_decoded(
    network: nn.Module, decoded: Sequence[DecodedBatch], device: torch.device
) -> list[BatchPredictions]:
    """Return the predictions for decoded batches; the caller computes in one thread.

    Args:
        network: network that `prepare_for_inference` returned, on `device`.
        decoded: the batches, with crops of the network's height and width.
        device: device of the network.
    """
    crops: list[NDArray[np.uint8]] = [batch.crops for batch in decoded]
    predictions = predict(network, crops, device, pad_to=BATCH_SIZE)
    return [
        batch.with_predictions(tensors.numpy())
        for batch, tensors in zip(decoded, predictions, strict=True)
    ]
