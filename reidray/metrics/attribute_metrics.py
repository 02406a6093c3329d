"""Compute the accuracy of predicted attributes, beside that of a constant prediction."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.data.attribute_schema import AttributeSchema


def majority_labels(
    attribute_labels: NDArray[np.integer[Any]], schema: AttributeSchema
) -> NDArray[np.int64]:
    """Return the most frequent known label of each attribute.

    The lower label wins a tie; the label is 0 where an attribute is known of no image.

    >>> from reidray.data.attribute_schema import NO_YES, Attribute
    >>> schema = AttributeSchema((Attribute("hat", NO_YES), Attribute("bag", NO_YES)))
    >>> majority_labels(np.array([[1, 0], [1, 1], [0, -1]]), schema).tolist()
    [1, 0]

    Args:
        attribute_labels: (N, A) integers, -1 where unknown.
        schema: The A attributes.

    Returns:
        (A,) int64.
    """
    columns = zip(attribute_labels.T, schema.sizes, strict=True)
    majority = [np.bincount(c[c >= 0], minlength=size).argmax() for c, size in columns]
    return np.array(majority, dtype=np.int64)


def attribute_accuracy(
    predicted: NDArray[np.int64],
    attribute_labels: NDArray[np.int8],
    schema: AttributeSchema,
    majority: NDArray[np.int64],
) -> dict[str, Any]:
    """Compute the accuracy of each attribute and their mean (Lin et al. 2019).

        accuracy_a         = |{i known: predicted_i,a = label_i,a}| / |{i known}|
        attribute_accuracy = mean of accuracy_a over the attributes known of at least one image

    An image counts for the attributes that are known of it. `majority` is the accuracy of the
    constant prediction `majority_a`, which a network has to exceed.

    >>> from reidray.data.attribute_schema import NO_YES, Attribute
    >>> schema = AttributeSchema((Attribute("hat", NO_YES), Attribute("bag", NO_YES)))
    >>> labels = np.array([[1, 0], [1, -1], [0, -1], [1, 1]], np.int8)
    >>> found = attribute_accuracy(np.ones((4, 2), np.int64), labels, schema, np.array([1, 0]))
    >>> found["attributes"]["hat"], found["attribute_accuracy"]
    ({'accuracy': 0.75, 'majority': 0.75}, 0.625)

    Args:
        predicted: (N, A) int64 labels.
        attribute_labels: (N, A) int8 labels, -1 where unknown.
        schema: The A attributes.
        majority: (A,) int64, the constant prediction.

    Returns:
        `attribute_accuracy` and `attribute_majority`, the means over the attributes, and
        `attributes`, which maps a name to its `accuracy` and `majority`. Empty where nothing is
        known.
    """
    by_name: dict[str, dict[str, float]] = {}
    for index, name in enumerate(schema.names):
        known = attribute_labels[:, index] >= 0
        if known.any():
            labels = attribute_labels[known, index]
            by_name[name] = {
                "accuracy": float((predicted[known, index] == labels).mean()),
                "majority": float((labels == majority[index]).mean()),
            }
    if not by_name:
        return {}
    return {
        "attribute_accuracy": float(np.mean([entry["accuracy"] for entry in by_name.values()])),
        "attribute_majority": float(np.mean([entry["majority"] for entry in by_name.values()])),
        "attributes": by_name,
    }
