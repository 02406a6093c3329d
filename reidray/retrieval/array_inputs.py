"""Check features and labels before any distance is computed, and convert them."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.generic] | Tensor
"""Features or labels: a NumPy array or a PyTorch tensor."""

Labels = Array | Sequence[int]
"""One whole number per image, such as a person id or a camera id."""

Integers = NDArray[np.int64]

KEPT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
UNSCALED_PEAKS = (2.0**-40, 2.0**40)
"""Between these magnitudes of the largest value, float32 holds the squares of all features."""


class InvalidRowError(ValueError):
    """Report a row of an argument that cannot be used.

    Attributes:
        name: Name of the argument.
        row: Index of the row in the argument.
        reason: What is wrong with the row.
    """

    def __init__(self, name: str, row: int, reason: str) -> None:
        super().__init__(name, row, reason)  # unpickling passes these arguments again
        self.name, self.row, self.reason = name, row, reason

    def __str__(self) -> str:
        return f"`{self.name}` row {self.row} {self.reason}"


def check_features(query: Array, gallery: Array) -> tuple[Tensor, Tensor, float]:
    """Check features and return them as tensors, without a copy where none is needed.

    Args:
        query: (Q, D) of any real dtype.
        gallery: (G, D) of the same library and on the same device.

    Returns:
        The query and the gallery as float32, float16 or bfloat16 tensors (other dtypes are cast to
        float32), and the power of two to multiply them by so that float32 holds their squares.
        The factor is 1 unless features are extremely large or small.

    Raises:
        ValueError: An argument is no array, has a wrong shape, is empty, or holds a value that is
            not finite.
    """
    tensors = as_features("query", query), as_features("gallery", gallery)
    if isinstance(query, Tensor) is not isinstance(gallery, Tensor):
        raise ValueError(
            f"`gallery` is a {type(gallery).__name__} and `query` a {type(query).__name__}: "
            "expected both of one kind"
        )
    if tensors[0].device != tensors[1].device:
        raise ValueError(
            f"`gallery` is on {tensors[1].device}: expected the query's device {tensors[0].device}"
        )
    if tensors[0].shape[1] != tensors[1].shape[1]:
        raise ValueError(
            f"`gallery` has {tensors[1].shape[1]} values per image: "
            f"expected the query's {tensors[0].shape[1]}"
        )
    peak = max(_finite_peak("query", tensors[0]), _finite_peak("gallery", tensors[1]))
    return *tensors, _scale_for(peak)


def as_features(name: str, features: Array) -> Tensor:
    """Return features (N, D) as a float32, float16 or bfloat16 tensor, without a needless copy.

    Raises:
        ValueError: The features are no array of real numbers, have a wrong shape or are empty.
    """
    if isinstance(features, Tensor):
        tensor = features.detach()
    elif isinstance(features, np.ndarray) and features.dtype.kind in "fiub":
        tensor = _from_numpy(features)
    else:
        found = getattr(features, "dtype", type(features).__name__)
        raise ValueError(f"`{name}` is {found}: expected a NumPy array or tensor of real numbers")
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(
            f"`{name}` has shape {tuple(tensor.shape)}: "
            "expected (images, values), neither of them 0"
        )
    if tensor.is_complex():
        raise ValueError(f"`{name}` is {tensor.dtype}: expected real numbers")
    if tensor.dtype not in KEPT_DTYPES:
        tensor = tensor.to(torch.float32)
    return tensor


def _from_numpy(features: NDArray[np.generic]) -> Tensor:
    if any(stride < 0 for stride in features.strides) or not features.dtype.isnative:
        features = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("="))
    if features.dtype.kind == "u" or features.dtype.itemsize > 8:
        features = features.astype(np.float32)
    with warnings.catch_warnings():  # arrays from an object store are read-only; none is written
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(features)


def _finite_peak(name: str, features: Tensor) -> float:
    low, high = torch.aminmax(features)
    peak = float(torch.maximum(-low.float(), high.float()))
    if not np.isfinite(peak):
        row = int((~torch.isfinite(features)).any(dim=1).nonzero()[0])
        raise InvalidRowError(name, row, "holds NaN, infinity or more than float32 can hold")
    return peak


def _scale_for(peak: float) -> float:
    low, high = UNSCALED_PEAKS
    if peak == 0.0 or low <= peak <= high:
        return 1.0
    return float(2.0 ** -np.frexp(peak)[1])


def check_labels(name: str, labels: Labels, images: int) -> Integers:
    """Check labels and return them as (images,) int64.

    Args:
        name: Name of the argument, for the message.
        labels: (images,) whole numbers.
        images: Expected number of labels.

    Raises:
        ValueError: The labels are not whole numbers, or not one per image.
    """
    values = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.shape != (images,):
        raise ValueError(f"`{name}` has shape {values.shape}: expected one per image, ({images},)")
    if values.dtype.kind not in "iu":
        raise ValueError(f"`{name}` is {values.dtype}: expected whole numbers")
    return values.astype(np.int64)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a ValueError where `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}: expected one of {', '.join(choices)}")


def check_count(name: str, value: int) -> None:
    """Raise a ValueError where `value` is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"`{name}` is {value!r}: expected a whole number")
    check_at_least(name, value, 1)


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ValueError where `value` is below `least` or NaN."""
    if not value >= least:
        raise ValueError(f"`{name}` is {value}: expected at least {least}")


def check_distance(name: str, value: float | None) -> None:
    """Raise a ValueError where `value` is NaN."""
    if value is not None and np.isnan(value):
        raise ValueError(f"`{name}` is {value}: expected a distance")
