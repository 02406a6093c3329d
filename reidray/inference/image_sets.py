"""Embed whole image sets into main memory, for evaluation and comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidray.data.images.decoding import BadImage
from reidray.inference.image_batches import BatchPredictions, ImageSet, plan_batches
from reidray.inference.prediction_loop import prediction_shape
from reidray.inference.predictions import Predictions
from reidray.inference.runs.embedding_engine import EmbedBatches
from reidray.models import LoadedModel


@dataclass(frozen=True, eq=False)
class SetPredictions:
    """Hold the predictions of a model for the images of a set that decode.

    Attributes:
        indices: (M,) int64 ascending, indices of these images in the paths of the set.
        predictions: predictions for these M images.
        bad: the images that do not decode, sorted by path.
    """

    indices: NDArray[np.int64]
    predictions: Predictions
    bad: tuple[BadImage, ...]


def embed_image_sets(
    embed: EmbedBatches, model: LoadedModel, image_sets: Sequence[ImageSet]
) -> Mapping[str, SetPredictions]:
    """Embed every image of some sets once.

    Args:
        embed: the engine that embeds.
        model: the model.
        image_sets: sets with different names.

    Returns:
        The predictions of each set, by its name.
    """
    shape = prediction_shape(model)
    collectors = {
        images.name: _Collector(images.paths, shape.empty(len(images.paths)))
        for images in image_sets
    }
    batches = [
        batch
        for images in image_sets
        for batch in plan_batches(images, np.arange(len(images.paths)))
    ]
    for results in embed(model, batches, None):
        for result in results:
            collectors[result.batch.set_name].add(result)
    return {name: collector.finish() for name, collector in collectors.items()}


class _Collector:
    """Collect the predictions of one set in the order of its paths."""

    def __init__(self, paths: Sequence[str], predictions: Predictions) -> None:
        self._paths, self._predictions = paths, predictions
        self._decoded = np.zeros(len(paths), dtype=bool)
        self._bad: list[BadImage] = []

    def add(self, result: BatchPredictions) -> None:
        """Add the predictions of a batch."""
        indices = np.array(result.batch.indices)[result.positions]
        self._predictions.assign(indices, result.predictions)
        self._decoded[indices] = True
        self._bad += [
            BadImage(result.batch.paths[position], reason)
            for position, reason in result.bad.items()
        ]

    def finish(self) -> SetPredictions:
        """Return the predictions, now that every batch is there."""
        indices = np.flatnonzero(self._decoded)
        bad = tuple(sorted(self._bad, key=lambda image: image.path))
        return SetPredictions(indices, self._predictions.select(indices), bad)
