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
        row: its figures, as in table.csv.
        classes: those of each class.
    """

    row: dict[str, Any]
    classes: ClassificationMetrics


@dataclass(frozen=True)
class DrawnPet:
    """A test image and what the networks draw of it, as `data:` addresses.

    Attributes:
        image: the image.
        drawn: by network, the image with all but the mask darkened.
    """

    image: str
    drawn: dict[str, str]


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
        classes=networks[0].classes.classes,
        charts=[
            confusion_chart(
                network.classes.confusion,
                network.classes.classes,
                network.row["method"],
                f"confusion-{index}",
            )
            for index, network in enumerate(networks)
        ],
    )
