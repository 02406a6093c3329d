"""Render the page of a comparison of pets networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidray.metrics.classification import ClassificationMetrics
from reidray.reporting.charts.confusion_matrix import confusion_chart
from reidray.reporting.charts.encoding import crop_data_uri
from reidray.reporting.rendering import render
from reidray.studies.pets.network_evaluation import NetworkResult


@dataclass(frozen=True)
class ReportedNetwork:
    """Hold a network of the report.

    Attributes:
        metrics: the row of table.csv.
        class_metrics: the metrics of each class.
    """

    metrics: dict[str, Any]
    class_metrics: ClassificationMetrics


@dataclass(frozen=True)
class ReportedPet:
    """Show a test image and its predicted masks.

    Attributes:
        image: `data:` URI of the image.
        masked: `data:` URIs of the image with a dark background, by the name of the network.
    """

    image: str
    masked: dict[str, str]


def render_pets_report(
    data: str, networks: Sequence[ReportedNetwork], pets: Sequence[ReportedPet]
) -> str:
    """Render the report as HTML.

    Args:
        data: folder or URI of the images.
        networks: the networks, one or more.
        pets: the images with masks.
    """
    return render(
        "pets_comparison.html",
        data=data,
        networks=networks,
        pets=pets,
        classes=networks[0].class_metrics.classes,
        charts=[
            confusion_chart(
                network.class_metrics.confusion,
                network.class_metrics.classes,
                network.metrics["method"],
                f"confusion-{index}",
            )
            for index, network in enumerate(networks)
        ],
    )


def show_masks(results: dict[str, NetworkResult]) -> list[ReportedPet]:
    """Return the shown images with their masks; none where no network predicts masks."""
    with_masks = {
        name: (result.crops, result.masks)
        for name, result in results.items()
        if result.masks is not None
    }
    if not with_masks:
        return []
    first = next(iter(results.values()))
    return [
        ReportedPet(
            crop_data_uri(first.crops[index]),
            {
                name: crop_data_uri(_darken_background(crops[index], masks[index]))
                for name, (crops, masks) in with_masks.items()
            },
        )
        for index in range(min(len(result.crops) for result in results.values()))
    ]


def _darken_background(crop: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    dark: NDArray[np.uint8] = np.where(mask[..., None], crop, crop // 5)
    return dark
