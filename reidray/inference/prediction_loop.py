"""Run a person network over crops: the one loop of all that embeds.

Validation, comparison, evaluation, `reidray.embed` and nightly runs all call `predict`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.data.augmentations import image_tensor
from reidray.inference.device_buffers import CropBuffers, PredictionTensors
from reidray.inference.predictions import LoopTiming, PredictionShape
from reidray.metrics.distractor_scores import attribute_uncertainty
from reidray.models import LoadedModel


def predict(
    network: nn.Module,
    batches: Iterable[Sequence[NDArray[np.uint8]]],
    device: torch.device,
    *,
    pad_to: int | None = None,
    flip: bool = False,
) -> Iterator[PredictionTensors]:
    """Yield the predictions of a network for each batch of crops.

    On a GPU nothing waits for the network: the next crops are read and copied to the device while
    it computes. `download` copies the predictions back in the same way.

    Args:
        network: a person network in evaluation mode, on `device`.
        batches: each one or more arrays (N, H, W, 3) uint8 RGB, of the network's height and width,
            which may change once the next batch is taken.
        device: device of the network.
        pad_to: crops in every forward pass: a smaller batch is filled up with black crops. The
            predictions of a crop then depend neither on the number of crops beside it nor on its
            place among them. By default batches stay as they are.
        flip: whether to average the embeddings, and the probabilities of the attributes, over
            each crop and its mirror image.
    """
    source, buffers = iter(batches), None
    last = time.perf_counter()
    while True:
        asked = time.perf_counter()
        crops = next(source, None)
        received = time.perf_counter()
        if crops is None:
            return
        with torch.inference_mode():
            if pad_to is None:
                images = image_tensor(np.concatenate(crops), device)
            else:
                buffers = buffers or CropBuffers(device, pad_to, crops[0].shape[1:])
                images = buffers.upload(crops)
            outputs = _predict_images(network, images, flip)
        count = sum(map(len, crops))
        now = time.perf_counter()
        timing = LoopTiming(count, now - last, received - asked)
        last = now
        embeddings, labels, uncertainty = (each[:count] for each in outputs)
        yield PredictionTensors(embeddings, labels, uncertainty, timing)


def prediction_shape(model: LoadedModel) -> PredictionShape:
    """Return the sizes of a model's predictions."""
    return PredictionShape(model.network.embedding_size, len(model.architecture.schema.names))


def _predict_images(network: nn.Module, images: Tensor, flip: bool) -> list[Tensor]:
    """Return embeddings, attribute labels and uncertainty of images (B, 3, H, W)."""
    views = [network(images), network(images.flip(3))] if flip else [network(images)]
    embeddings = _mean([outputs.embedding.float() for outputs in views])
    attributes = list(zip(*(outputs.attributes for outputs in views), strict=True))
    if not attributes:
        labels = embeddings.new_empty((len(embeddings), 0), dtype=torch.int64)
        return [embeddings, labels, embeddings.new_full((len(embeddings),), torch.nan)]
    probabilities = [
        _mean([logits.float().softmax(dim=1) for logits in of_views]) for of_views in attributes
    ]
    # The probabilities of the images alone may tie where the logits do not.
    ranked = probabilities if flip else [logits for (logits,) in attributes]
    labels = torch.stack([values.argmax(dim=1) for values in ranked], dim=1)
    return [embeddings, labels, attribute_uncertainty(probabilities)]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)
