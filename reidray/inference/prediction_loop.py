"""Run a person network over crops: the one loop of all that embeds.

Validation, comparison, evaluation, `reidray.embed` and nightly runs all call `predict`.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.data.augmentations import image_tensor
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.metrics.distractor_scores import attribute_uncertainty
from reidray.models import LoadedModel
from reidray.models.striped_resnet import StripedResNet


class PredictionTensors(NamedTuple):
    """Hold the predictions of a network for N crops, on the device of the network.

    Attributes:
        embeddings: (N, D) float32, not normalised.
        attribute_labels: (N, A) int64, the most likely label of each attribute; A is 0 where the
            network predicts none.
        uncertainty: (N,) float32, `attribute_uncertainty`; NaN where the network predicts no
            attributes.
    """

    embeddings: Tensor
    attribute_labels: Tensor
    uncertainty: Tensor

    def numpy(self) -> Predictions:
        """Return the predictions as arrays in main memory."""
        return Predictions(*(values.cpu().numpy() for values in self))


def predict(
    network: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    device: torch.device,
    *,
    pad_to: int | None = None,
) -> Iterator[PredictionTensors]:
    """Yield the predictions of a network for each batch of crops.

    Args:
        network: a person network in evaluation mode, on `device`.
        batches: each (N, H, W, 3) uint8 RGB, of the network's height and width.
        device: device of the network.
        pad_to: crops in every forward pass: a smaller batch is filled up with black crops. The
            predictions of a crop then depend neither on the number of crops beside it nor on its
            place among them. By default batches stay as they are.
    """
    for crops in batches:
        with torch.inference_mode():
            outputs = network(image_tensor(_pad(crops, pad_to), device))
            embeddings = outputs.embedding.float()
            labels, uncertainty = _predict_attributes(outputs.attributes, embeddings)
        count = len(crops)
        yield PredictionTensors(embeddings[:count], labels[:count], uncertainty[:count])


def prepare_for_inference(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of a network on a device, in evaluation mode and with folded normalisation.

    cuDNN then chooses deterministic algorithms in this process.
    """
    torch.backends.cudnn.deterministic = True
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, StripedResNet):
            module.fold()
    return network.to(device)


def prediction_shape(model: LoadedModel) -> PredictionShape:
    """Return the sizes of a model's predictions."""
    return PredictionShape(model.network.embedding_size, len(model.architecture.schema.names))


def _pad(crops: NDArray[np.uint8], pad_to: int | None) -> NDArray[np.uint8]:
    if pad_to is None:
        return crops
    padded = np.zeros((pad_to, *crops.shape[1:]), dtype=np.uint8)
    padded[: len(crops)] = crops
    return padded


def _predict_attributes(logits: Sequence[Tensor], embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label of each attribute, (N, A) int64, and their uncertainty, (N,) float32.

    Args:
        logits: (N, V) of each attribute; V may differ.
        embeddings: (N, D) of the same crops.
    """
    if not logits:
        count = len(embeddings)
        return (
            embeddings.new_empty((count, 0), dtype=torch.int64),
            embeddings.new_full((count,), torch.nan),
        )
    labels = torch.stack([values.argmax(dim=1) for values in logits], dim=1)
    return labels, attribute_uncertainty([values.float().softmax(dim=1) for values in logits])
