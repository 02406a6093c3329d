"""Render the page of a comparison of pets networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidray.reporting.charts.confusion_matrix import confusion_chart
from reidray.reporting.charts.embedding_maps import class_maps
from reidray.reporting.charts.encoding import Chart, png_data_uri
from reidray.reporting.charts.grouped_bars import grouped_bars
from reidray.reporting.charts.learning_curves import run_comparison_charts
from reidray.reporting.dataset_figures.pictures import (
    ImageSource,
    Picture,
    PictureRow,
    make_picture,
)
from reidray.reporting.rendering import render
from reidray.studies.pets.network_evaluation import NetworkResult
from reidray.studies.pets.pet_data_figures import DataFigures
from reidray.studies.pets.pet_features import NEIGHBOURS
from reidray.studies.pets.pet_samples import MaskSample


@dataclass(frozen=True)
class ShownMask:
    """Show a test image, its true mask and the predicted one.

    Attributes:
        image: the image, with its IoU as the caption.
        truth: `data:` URI of the true mask.
        predicted: `data:` URI of the predicted mask.
    """

    image: Picture
    truth: str
    predicted: str


@dataclass(frozen=True)
class ShownMasks:
    """Show the test images with the best masks of a network and those with the worst."""

    name: str
    best: tuple[ShownMask, ...]
    worst: tuple[ShownMask, ...]


def render_pets_page(
    data: str,
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, NetworkResult],
    trainings: Mapping[str, Sequence[Mapping[str, Any]]],
    figures: DataFigures,
    sources: Mapping[str, ImageSource],
) -> str:
    """Render the page as HTML.

    Args:
        data: folder or URI of the images.
        rows: the rows of table.csv, one for each network.
        results: the results of each network by its name.
        trainings: the metrics of each epoch of the trainings that are known, by the network's name.
        figures: the figures of the images.
        sources: the source of the images in the input size of each network; empty where the page
            shows no images.
    """
    first = next(iter(results.values())).classes
    classes = first.classes
    maps = {name: each.feature_map for name, each in results.items() if each.feature_map}
    return render(
        "pets_comparison.html",
        data=data,
        rows=rows,
        classes=classes,
        support=first.support.tolist(),
        f1={name: each.classes.f1.tolist() for name, each in results.items()},
        f1_chart=grouped_bars(
            "F1 of each class",
            classes,
            {name: each.classes.f1.tolist() for name, each in results.items()},
            "F1",
            "f1",
        ),
        curves=run_comparison_charts(trainings),
        k=NEIGHBOURS,
        confusion=_confusion_charts(results),
        maps=png_data_uri(class_maps(maps, classes)) if maps else None,
        masks=[
            _show_masks(name, results[name], source)
            for name, source in sources.items()
            if results[name].masks
        ],
        mistakes=[_show_mistakes(name, results[name], source) for name, source in sources.items()],
        figures=figures,
    )


def _confusion_charts(results: Mapping[str, NetworkResult]) -> list[Chart]:
    """Draw the confusion matrix of each network, and that of its nearest neighbours."""
    charts = []
    for number, (name, result) in enumerate(results.items()):
        kinds = {"": result.classes, f", {NEIGHBOURS} nearest neighbours": result.neighbours}
        charts += [
            confusion_chart(
                metrics.confusion, metrics.classes, f"{name}{kind}", f"confusion-{number}-{index}"
            )
            for index, (kind, metrics) in enumerate(kinds.items())
            if metrics is not None
        ]
    return charts


def _show_masks(name: str, result: NetworkResult, source: ImageSource) -> ShownMasks:
    """Return the pictures of the best and the worst masks of a network."""

    def show(sample: MaskSample) -> ShownMask:
        path = source.name(sample.index)
        picture = make_picture(sample.crop, path, f"IoU {sample.iou:.1%}")
        return ShownMask(picture, _mask_uri(sample.truth), _mask_uri(sample.predicted))

    assert result.masks is not None
    return ShownMasks(
        name, tuple(map(show, result.masks.best)), tuple(map(show, result.masks.worst))
    )


def _mask_uri(mask: NDArray[np.bool_]) -> str:
    """Return the `data:` URI of a mask, white in the foreground."""
    written = BytesIO()
    Image.fromarray(mask).save(written, format="PNG")
    return png_data_uri(written.getvalue())


def _show_mistakes(name: str, result: NetworkResult, source: ImageSource) -> PictureRow:
    """Return the pictures of the most confident wrong predictions of a network."""
    captions = [  # of names that break between words
        f"{each.label}, predicted {each.predicted}".replace("_", " ") + f" ({each.probability:.1%})"
        for each in result.mistakes
    ]
    indices = np.array([each.index for each in result.mistakes], dtype=np.int64)
    return PictureRow(name, tuple(source.pictures(indices, captions)))
