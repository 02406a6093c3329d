"""The page that puts networks for pets side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reidray.metrics.classification import ClassificationMetrics
from reidray.reporting.charts.confusion_matrix import confusion_chart
from reidray.reporting.rendering import render


@dataclass(frozen=True)
class ComparedNetwork:
    """A network on the test part.

    Attributes:
        metrics: its figures, as in table.csv.
        class_metrics: those of each class.
    """

    metrics: dict[str, Any]
    class_metrics: ClassificationMetrics


@dataclass(frozen=True)
class DrawnPet:
    """A test image and what the networks draw of it, as `data:` addresses.

    Attributes:
        image: the image.
        masked: by network, the image with all but the mask darkened.
    """

    image: str
    masked: dict[str, str]


def pets_comparison_page(
    data: str, networks: Sequence[ComparedNetwork], pets: Sequence[DrawnPet]
) -> str:
    """The page as HTML.

    Args:
        data: folder or URI of the images.
        networks: those compared, one at least.
        pets: images to show.
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
