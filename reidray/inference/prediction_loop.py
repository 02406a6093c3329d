"""Run a person network over crops: the one loop of all that embeds.

Comparison, evaluation, `reidray.embed` and nightly runs all call `predict`. Validation needs other
outputs of a network too, and runs it by itself.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.data.augmentations import image_tensor
from reidray.errors import MachineError
from reidray.inference.device_buffers import CropBuffers, PredictionTensors
from reidray.inference.image_batches import BATCH_SIZE
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.predictions import LoopTiming, PredictionShape
from reidray.metrics.distractor_scores import attribute_uncertainty
from reidray.models import Architecture, LoadedModel
from reidray.models.factory import build_network
from reidray.models.inference_network import largest_activation, prepare_for_inference
from reidray.retrieval.numerics import full_precision

BATCH_PIXELS = 2**24
"""Pixels in a batch on a GPU that fill it: 512 crops of 256x128, which did on an H200."""

MAX_BATCH_SIZE = 1024

MEMORY_SHARE = 0.25
"""Share of the memory of a GPU that a batch may take, as other programs use the GPU too."""

BYTES_PER_ACTIVATION = 16
"""Bytes for each number in the output of the largest layer: the float32 values of its input, its
output, a shortcut beside it and the workspace of cuDNN."""


@dataclass(frozen=True, eq=False)
class PreparedNetwork:
    """Hold a network that embeds, and the form of its forward passes.

    Attributes:
        network: network that `prepare_for_inference` returned.
        device: device of the network.
        batch_size: crops in every forward pass.
        flip: whether to average over mirror images.
    """

    network: nn.Module
    device: torch.device
    batch_size: int
    flip: bool

    def predict(
        self, batches: Iterable[Sequence[NDArray[np.uint8]]]
    ) -> Iterator[PredictionTensors]:
        """Yield predictions for batches of at most `batch_size` crops (see `predict`)."""
        return predict(self.network, batches, self.device, pad_to=self.batch_size, flip=self.flip)


def prepare_network(
    network: nn.Module, size: tuple[int, int], settings: InferenceSettings, device: torch.device
) -> PreparedNetwork:
    """Return a copy of a network for inference.

    Args:
        network: the trained network.
        size: height and width of a crop in pixels.
        settings: precision, and use of mirror images.
        device: device of the copy.

    Raises:
        MachineError: the GPU has no room for the network.
    """
    batch_size = BATCH_SIZE
    with _explain_lack_of_memory("the network"):
        prepared = prepare_for_inference(network, device, settings.precision)
        if device.type == "cuda":
            memory = torch.cuda.get_device_properties(device).total_memory
            batch_size = choose_batch_size(prepared, size, memory)
    return PreparedNetwork(prepared, device, batch_size, settings.flip)


def load_network(
    architecture: Architecture[Any],
    weights: Mapping[str, Tensor],
    settings: InferenceSettings,
    device: torch.device,
) -> PreparedNetwork:
    """Return a network for inference from its description and its weights.

    Args:
        architecture: description of the network.
        weights: its state dict.
        settings: precision, and use of mirror images.
        device: device of the network.

    Raises:
        MachineError: the GPU has no room for the network.
    """
    network = build_network(architecture)
    network.load_state_dict(weights)
    return prepare_network(network, architecture.size, settings, device)


def choose_batch_size(network: nn.Module, size: tuple[int, int], memory: int) -> int:
    """Return the number of crops in a forward pass on a GPU, a power of two from 64 to 1024.

    Another number may give an embedding other last digits. So it depends on the network, on the
    size of the crops and on the kind of the GPU, and not on the memory that is free.

    Args:
        network: network that `prepare_for_inference` returned.
        size: height and width of a crop in pixels.
        memory: bytes of memory of the GPU, free or not.
    """
    bytes_per_crop = BYTES_PER_ACTIVATION * largest_activation(network, *size)
    fitting = int(MEMORY_SHARE * memory) // bytes_per_crop
    filling = BATCH_PIXELS // (size[0] * size[1])
    batch_size = min(max(min(fitting, filling), BATCH_SIZE), MAX_BATCH_SIZE)
    return 1 << batch_size.bit_length() - 1  # the power of two below


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
    it computes. `download` copies the predictions back in the same way. Autocast and the precision
    of matrix products that the caller set do not matter.

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

    Raises:
        MachineError: the GPU has no room for a batch. Smaller ones might give other last digits.
    """
    source, buffers = iter(batches), None
    needs = "a batch" if pad_to is None else f"a batch of {pad_to} crops"
    last = time.perf_counter()
    while True:
        asked = time.perf_counter()
        crops = next(source, None)
        received = time.perf_counter()
        if crops is None:
            return
        with torch.inference_mode(), full_precision(device), _explain_lack_of_memory(needs):
            if pad_to is None:
                images = image_tensor(np.concatenate(crops), device)
            else:
                buffers = buffers or CropBuffers(device, pad_to, crops[0].shape[1:])
                images = buffers.upload(crops)
            outputs = predict_images(network, images, flip)
        count = sum(map(len, crops))
        now = time.perf_counter()
        timing = LoopTiming(count, now - last, received - asked)
        last = now
        embeddings, labels, uncertainty = (each[:count] for each in outputs)
        yield PredictionTensors(embeddings, labels, uncertainty, timing)


@contextmanager
def _explain_lack_of_memory(needs: str) -> Iterator[None]:
    """Raise a lack of memory on a GPU as an error of one line.

    Args:
        needs: what the memory is for.
    """
    try:
        yield
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise MachineError(
            f"embedding: the GPU has too little free memory for {needs}; end other programs "
            "that use it, or embed on CPUs with `use_gpu=no`"
        ) from error


def lacks_memory(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch is a lack of memory on a GPU.

    Where the GPU is full before this process uses it, CUDA and its libraries fail to start, with
    errors of other types than that of PyTorch's allocator.
    """
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    )


def prediction_shape(model: LoadedModel) -> PredictionShape:
    """Return the sizes of a model's predictions."""
    return PredictionShape(model.network.embedding_size, len(model.architecture.schema.names))


def predict_images(network: nn.Module, images: Tensor, flip: bool = False) -> list[Tensor]:
    """Return embeddings, attribute labels and uncertainty of images, as in `PredictionTensors`.

    Args:
        network: a person network in evaluation mode.
        images: (B, 3, H, W) uint8 on the network's device.
        flip: whether to average the results over each image and its mirror image.
    """
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
