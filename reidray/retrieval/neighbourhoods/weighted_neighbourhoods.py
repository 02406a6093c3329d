"""Hold the neighbourhoods of images."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

RelativeDistances = Callable[[Tensor, Tensor], Tensor]
"""Return the squared distances (P,) float64 of pairs of images, rows (P,) and columns (P,) int64,
divided by the squared distance of the image that is farthest from the row."""


@dataclass(frozen=True)
class Neighbourhoods:
    """Hold the neighbourhoods of N images: E weights of an image in the neighbourhood of another.

    Attributes:
        rows: (E,) int64, the image that has the neighbourhood; ascending.
        images: (E,) int64, the image in it; ascending for each row.
        weights: (E,) float64; those of a row sum to 1.
    """

    rows: Tensor
    images: Tensor
    weights: Tensor
