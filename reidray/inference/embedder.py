"""What a network says of ready batches of crops, and of a few images in this process."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidray.inference.image_batches import (
    BATCH,
    BatchPredictions,
    ImageSet,
    decode_batches,
    describe_images,
    plan_batches,
    read_batch,
)
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.metrics.distractor_scores import attribute_uncertainty
from reidray.models import Architecture, LoadedModel
from reidray.models.networks import Network
from reidray.models.striped_resnet import StripedResNet
from reidray.progress import warn_when_slow
from reidray.retrieval.numerics import single_thread


def prediction_shape(model: LoadedModel) -> PredictionShape:
    """What the model says of one image."""
    return PredictionShape(model.network.embedding_size, len(model.architecture.schema.names))


def embed_in_process(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    wanted: Sequence[NDArray[np.int64]],
    known: NDArray[np.bytes_] | None = None,
) -> Iterator[list[BatchPredictions]]:
    """Embed a few images of some sets in this process, on one CPU, as a cluster would.

    Args:
        model: what embeds.
        sets: the images.
        wanted: of each set the rows to embed.
        known: sorted digests, (N,) S32, of contents that need not be decoded, whatever their name.
    """
    embedder = Embedder(model.network, model.architecture, "cpu")
    size = (model.architecture.height, model.architecture.width)
    with single_thread():
        plan = plan_batches(sets, wanted)
        decoded = decode_batches(plan, size, known)
        for planned in plan:
            with warn_when_slow("reading %s", describe_images([planned])):
                batches = next(decoded)
            embedded = embedder.embed(batches).to_pylist()
            yield [read_batch(row, prediction_shape(model)) for row in embedded]


class Embedder:
    """Holds a copy of a network and embeds ready batches; the caller computes in one thread."""

    def __init__(self, network: Network, architecture: Architecture[Any], device: str) -> None:
        torch.backends.cudnn.deterministic = True
        self._size = (architecture.height, architecture.width)
        self._device = torch.device(device)
        self._network = copy.deepcopy(network).eval()
        for part in self._network.modules():
            if isinstance(part, StripedResNet):
                part.fold()
        self._network.to(self._device)

    def embed(self, batches: pa.Table) -> pa.Table:
        """Replace the crops by what the model says of them."""
        found = [
            self.predict(
                np.frombuffer(crops.as_buffer(), dtype=np.uint8).reshape(-1, *self._size, 3)
            ).to_bytes()
            for crops in batches["crops"]
        ]
        done = batches.drop_columns(["crops"])
        for name in found[0]:
            column = pa.array([predicted[name] for predicted in found], pa.large_binary())
            done = done.append_column(name, column)
        return done

    def predict(self, crops: NDArray[np.uint8]) -> Predictions:
        """Return the predictions of at most `BATCH` crops.

        Args:
            crops: (N, H, W, 3) uint8 RGB, of the network's height and width.
        """
        padded = np.zeros((BATCH, *self._size, 3), dtype=np.uint8)
        padded[: len(crops)] = crops
        with torch.inference_mode():
            outputs = self._network(torch.from_numpy(padded).permute(0, 3, 1, 2).to(self._device))
            found = outputs.embedding.float(), *_codes_and_doubt(outputs.attributes)
        return Predictions(*(part.cpu().numpy() for part in found)).take(slice(len(crops)))


def _codes_and_doubt(logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Codes (BATCH, A) int64 of the attributes, and uncertainty (BATCH,) float32."""
    if not logits:
        return torch.empty(BATCH, 0, dtype=torch.int64), torch.full((BATCH,), torch.nan)
    attribute_labels = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
    return attribute_labels, attribute_uncertainty(
        [values.float().softmax(dim=1) for values in logits]
    )
