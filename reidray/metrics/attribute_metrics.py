"""How often predicted attributes are right, beside what a constant guess would reach."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import AttributeSchema


def majority_labels(codes: NDArray[np.integer[Any]], schema: AttributeSchema) -> NDArray[np.int64]:
    """The most frequent known code of each attribute.

    Args:
        codes: (N, A) integers, -1 where unknown.
        schema: the A attributes.

    Returns:
        (A,) int64.
    """
    columns = zip(codes.T, schema.sizes, strict=True)
    frequent = [np.bincount(c[c >= 0], minlength=size).argmax() for c, size in columns]
    return np.array(frequent, dtype=np.int64)


def attribute_accuracy(
    predicted: NDArray[np.int64],
    codes: NDArray[np.int8],
    schema: AttributeSchema,
    majority: NDArray[np.int64],
) -> dict[str, Any]:
    """Accuracy of each attribute over the images where it is known, and the mean of these.

    Args:
        predicted: (N, A) int64.
        codes: (N, A) int8, -1 where unknown.
        schema: the A attributes.
        majority: (A,) int64, what a constant guess says.

    Returns:
        `attribute_accuracy` and `attribute_majority`, means over the attributes that are known of
        anybody, and `attributes` with both for each.
    """
    by_name: dict[str, dict[str, float]] = {}
    for index, name in enumerate(schema.names):
        known = codes[:, index] >= 0
        if known.any():
            right = predicted[known, index] == codes[known, index]
            guessed = codes[known, index] == majority[index]
            by_name[name] = {"accuracy": float(right.mean()), "majority": float(guessed.mean())}
    if not by_name:
        return {}
    return {
        "attribute_accuracy": float(np.mean([entry["accuracy"] for entry in by_name.values()])),
        "attribute_majority": float(np.mean([entry["majority"] for entry in by_name.values()])),
        "attributes": by_name,
    }
