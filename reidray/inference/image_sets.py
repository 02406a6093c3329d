"""The embeddings of labelled sets, all in memory, for judging a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from reidray.config.scoring import STALL_MINUTES
from reidray.data.images.decoding import BadImage
from reidray.inference.embedder import prediction_shape
from reidray.inference.image_batches import BatchPredictions, ImageSet
from reidray.inference.predictions import Predictions, PredictionShape
from reidray.inference.ray_engine import Pool, embed_images
from reidray.models import LoadedModel


@dataclass(frozen=True)
class SetPredictions:
    """What a model says of an image set; arrays run over the M images that decoded.

    Attributes:
        rows: (M,) int64 ascending, their indices in the set's paths.
        predictions: what the model says of these.
        bad: the images that did not decode, by path.
    """

    rows: NDArray[np.int64]
    predictions: Predictions
    bad: tuple[BadImage, ...]


def embed_image_sets(
    model: LoadedModel,
    sets: Sequence[ImageSet],
    pool: Pool,
    stall_minutes: float = STALL_MINUTES,
) -> list[SetPredictions]:
    """Embed every image of some sets once, in one pass.

    Args:
        model: what embeds.
        sets: the images.
        pool: the processes.
        stall_minutes: a worker that has given no answer for so long is started again.

    Returns:
        One for each set.
    """
    shape = prediction_shape(model)
    parts = [_Part(images.paths, shape) for images in sets]
    wanted = [np.arange(len(images.paths)) for images in sets]
    for batch in chain.from_iterable(
        embed_images(model, sets, wanted, pool, stall_minutes=stall_minutes)
    ):
        parts[batch.set].take(batch)
    return [part.finish() for part in parts]


class _Part:
    """The embeddings of one set as they come in, put at their images' places."""

    def __init__(self, paths: Sequence[str], shape: PredictionShape) -> None:
        self._paths = paths
        self._predictions = shape.empty(len(paths))
        self._decoded = np.zeros(len(paths), dtype=bool)
        self._bad: list[BadImage] = []

    def take(self, batch: BatchPredictions) -> None:
        """Put an embedded batch in its place."""
        rows = np.asarray(batch.rows)[batch.kept]
        self._predictions.put(rows, batch.predictions)
        self._decoded[rows] = True
        for place, reason in zip(batch.bad, batch.reasons, strict=True):
            self._bad.append(BadImage(self._paths[batch.rows[place]], reason))

    def finish(self) -> SetPredictions:
        """The set, now that every batch is here."""
        rows = np.flatnonzero(self._decoded)
        bad = tuple(sorted(self._bad, key=lambda image: image.path))
        return SetPredictions(rows, self._predictions.take(rows), bad)
