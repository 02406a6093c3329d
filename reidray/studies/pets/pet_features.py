"""Compute the features of pets: run a network for them, search them, and map them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidray.comparison.report_samples import map_embeddings
from reidray.data.crop_labels import CropLabels
from reidray.data.device_crops import DeviceCrops
from reidray.metrics.classification import ClassificationMetrics, evaluate_classification
from reidray.models import PetOutputs
from reidray.reporting.charts.embedding_maps import LabelledMap
from reidray.retrieval import knn_classify
from reidray.training.tasks.multitask.label_evaluation import MultitaskOutputs, run_network

NEIGHBOURS = 10
"""Number of training images that vote for the class of a test image."""

METRIC = "euclidean"
IMAGES_PER_MAPPED_CLASS = 20
FEWEST_MAPPED = 4
"""Number of images below which a map shows nothing."""


def run_with_features(
    network: nn.Module, crops: DeviceCrops, labels: CropLabels, device: torch.device
) -> tuple[MultitaskOutputs, Tensor]:
    """Run a network on N images.

    Args:
        network: pets network in evaluation mode, on `device`.
        crops: decoded images on `device`.
        labels: labels of the N images.
        device: device of the network.

    Returns:
        The outputs on the CPU, and the features (N, D) float32 on the device.
    """
    features: list[Tensor] = []

    def record(_: nn.Module, __: object, outputs: PetOutputs) -> None:
        features.append(outputs.features.float())

    hook = network.register_forward_hook(record)
    try:
        outputs = run_network(network, crops, labels.indices, device)
    finally:
        hook.remove()
    return outputs.cpu(), torch.cat(features)


def evaluate_neighbours(
    query: Tensor, gallery: Tensor, query_labels: CropLabels, gallery_labels: CropLabels
) -> ClassificationMetrics:
    """Evaluate the classes that the nearest images, weighted by distance, vote for.

    Args:
        query: (Q, D) float32, the features of the test images.
        gallery: (G, D) float32, the features of the training images, on the same device.
        query_labels: labels of the Q test images.
        gallery_labels: labels of the G training images.
    """
    predicted = knn_classify(
        query,
        gallery,
        gallery_labels.class_labels,
        k=NEIGHBOURS,
        weights="distance",
        metric=METRIC,
    )
    truth = query_labels.class_labels.astype(np.int64)
    return evaluate_classification(predicted, truth, query_labels.classes)


def map_features(features: Tensor, labels: CropLabels, seed: int) -> LabelledMap | None:
    """Compute a t-SNE map of a few random images of each class; None for fewer than four images.

    Args:
        features: (N, D) float32.
        labels: labels of the N images.
        seed: seed of the choice, and of the first coordinates.
    """
    classes = labels.class_labels.astype(np.int64)
    chosen = _choose_images(classes, seed)
    if len(chosen) < FEWEST_MAPPED:
        return None
    mapped = features[torch.from_numpy(chosen).to(features.device)].cpu().numpy()
    return LabelledMap(map_embeddings(mapped, METRIC, seed), classes[chosen])


def _choose_images(class_labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the places of random images of each class, (P,) int64."""
    random = np.random.default_rng(seed)
    places = [
        random.permutation(np.flatnonzero(class_labels == label))[:IMAGES_PER_MAPPED_CLASS]
        for label in np.unique(class_labels)
    ]
    return np.sort(np.concatenate(places))
