"""What a model says of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """What a model says of N images.

    Attributes:
        embeddings: (N, D) float32.
        attribute_labels: (N, A) int64, predicted code of each attribute of the model's schema.
        uncertainty: (N,) float32, how unsure the model is of the attributes; NaN where it has none.
    """

    embeddings: NDArray[np.float32]
    attribute_labels: NDArray[np.int64]
    uncertainty: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.embeddings)

    def take(self, rows: NDArray[np.int64] | slice) -> Self:
        """Those of some images."""
        return type(self)(*(values[rows] for values in vars(self).values()))

    def put(self, rows: NDArray[np.int64], others: "Predictions") -> None:
        """Put others in the place of those of some images."""
        for name, values in vars(others).items():
            getattr(self, name)[rows] = values

    def to_bytes(self) -> dict[str, bytes]:
        """The numbers of each, by name."""
        return {name: values.tobytes() for name, values in vars(self).items()}

    @classmethod
    def from_bytes(cls, data: Mapping[str, bytes], shape: "PredictionShape", images: int) -> Self:
        """What `to_bytes` made."""
        empty = shape.empty(0)
        return cls(
            **{
                name: np.frombuffer(data[name], dtype=values.dtype).reshape(
                    images, *values.shape[1:]
                )
                for name, values in vars(empty).items()
            }
        )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Those of some parts, one after the other; at least one part."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])
    }
    return Predictions(**columns)


@dataclass(frozen=True)
class PredictionShape:
    """What a model says of one image.

    Attributes:
        embedding_size: numbers of an embedding.
        attributes: how many attributes it predicts.
    """

    embedding_size: int
    attributes: int

    def empty(self, images: int) -> Predictions:
        """Places for those of so many images."""
        return Predictions(
            np.empty((images, self.embedding_size), dtype=np.float32),
            np.empty((images, self.attributes), dtype=np.int64),
            np.empty(images, dtype=np.float32),
        )
