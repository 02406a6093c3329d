"""Hold the predictions of a model for images, as NumPy arrays, and the time that they took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LoopTiming:
    """Hold the time that a loop over a network took. Timings of parts add up to that of the whole.

    Attributes:
        num_images: number of images.
        seconds: seconds of the loop; those of several processes add up.
        input_wait_seconds: seconds of them in which the loop waited for decoded images.
    """

    num_images: int = 0
    seconds: float = 0.0
    input_wait_seconds: float = 0.0

    def __add__(self, other: "LoopTiming") -> "LoopTiming":
        return LoopTiming(
            self.num_images + other.num_images,
            self.seconds + other.seconds,
            self.input_wait_seconds + other.input_wait_seconds,
        )

    @property
    def input_wait(self) -> float:
        """Return the share of the seconds in which the loop waited for decoded images, 0 to 1."""
        return self.input_wait_seconds / self.seconds if self.seconds else 0.0


NO_TIME = LoopTiming()


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hold the predictions of a model for N images.

    Attributes:
        embeddings: (N, D) float32, not normalised.
        attribute_labels: (N, A) int64, the most likely label of each attribute of the model's
            schema.
        uncertainty: (N,) float32, `attribute_uncertainty` of the attributes; NaN where the model
            predicts none.
    """

    embeddings: NDArray[np.float32]
    attribute_labels: NDArray[np.int64]
    uncertainty: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.embeddings)

    def select(self, indices: NDArray[np.int64] | slice) -> "Predictions":
        """Return the predictions of some of the images.

        Args:
            indices: (M,) int64, or a slice of the images.
        """
        return Predictions(
            self.embeddings[indices], self.attribute_labels[indices], self.uncertainty[indices]
        )

    def assign(self, indices: NDArray[np.int64], predictions: "Predictions") -> None:
        """Overwrite the predictions of some of the images.

        Args:
            indices: (M,) int64, the images.
            predictions: predictions for these M images.
        """
        self.embeddings[indices] = predictions.embeddings
        self.attribute_labels[indices] = predictions.attribute_labels
        self.uncertainty[indices] = predictions.uncertainty


@dataclass(frozen=True)
class PredictionShape:
    """Hold the sizes of a model's predictions.

    Attributes:
        embedding_size: numbers in an embedding, D.
        num_attributes: attributes that the model predicts, A.
    """

    embedding_size: int
    num_attributes: int

    def empty(self, num_images: int) -> Predictions:
        """Return uninitialised predictions for a number of images."""
        return Predictions(
            np.empty((num_images, self.embedding_size), dtype=np.float32),
            np.empty((num_images, self.num_attributes), dtype=np.int64),
            np.empty(num_images, dtype=np.float32),
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several parts, one after the other.

    Args:
        parts: one part or more.
    """
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])
    }
    return Predictions(**columns)
