"""Compare trained pet networks on the test images: metrics, confusion matrices and masks."""

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from reidray.comparison.compare_checks import METRICS_FILE, REPORT_FILE, TABLE_FILE
from reidray.config import MultitaskLossConfig
from reidray.config.comparison import CompareConfig
from reidray.data.augmentations import image_tensor
from reidray.data.crop_labels import CropLabels
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.data.ingest.mode import choose_ingest_mode, ingest
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.errors import UserError
from reidray.metrics.classification import ClassificationMetrics
from reidray.models import LoadedModel, load_model
from reidray.reporting.charts.confusion_matrix import confusion_chart
from reidray.reporting.charts.encoding import crop_data_uri
from reidray.reporting.rendering import render
from reidray.storage.csv_files import write_csv_records
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.training.execution.ray_trainer import plan_workers
from reidray.training.execution.resources import Resources
from reidray.training.experiment import image_files
from reidray.training.orchestration import report_bad_images
from reidray.training.tasks.multitask.definition import group_by_row
from reidray.training.tasks.multitask.label_evaluation import LabelEvaluation, evaluate_network

log = logging.getLogger("reidray")

NUM_SHOWN = 6
"""Number of test images whose masks the report shows."""


@dataclass(frozen=True)
class NetworkResult:
    """Hold the results of a network on the test images.

    Attributes:
        evaluation: the metrics.
        crops: (S, H, W, 3) uint8, the images whose masks the report shows.
        masks: (S, H, W) bool, the predicted masks; None where the network predicts none.
    """

    evaluation: LabelEvaluation
    crops: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None


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


def compare_pets(
    config: CompareConfig, session: AbstractContextManager[None] | None = None
) -> dict[str, Any]:
    """Compare networks and write `comparison.json`, `table.csv` and `report.html`.

    Args:
        config: the configuration of the comparison.
        session: a connection to Ray, which is opened after the checks of the inputs; None where
            Ray is connected.

    Returns:
        The output folder and the metrics of each network.

    Raises:
        UserError: the data, a model or the output is not valid, or too many images do not decode.
            The output folder does not change then.
    """
    with atomic_output(config.output) as staging:
        manifest = read_manifest(
            config.data, config.layout, root=config.root, follow_links=config.follow_links
        )
        test = _select_test_images(manifest)
        models = _load_models(config, manifest)
        with session or nullcontext():
            results = {
                name: _evaluate_on_cluster(model, test, config) for name, model in models.items()
            }
        rows = [_to_row(name, models[name], result) for name, result in results.items()]
        summary = {
            "task": config.task,
            "data": manifest.root,
            "dataset": manifest.summary,
            "methods": rows,
        }
        details = {name: result.evaluation.to_json() for name, result in results.items()}
        record = json.dumps(summary | {"test": details}, indent=2)
        (staging / METRICS_FILE).write_text(record + "\n", encoding="utf-8")
        (staging / TABLE_FILE).write_bytes(write_csv_records(rows))
        networks = [
            ReportedNetwork(row, result.evaluation.labels["class"])
            for row, result in zip(rows, results.values(), strict=True)
        ]
        report = render_pets_report(manifest.root, networks, _reported_pets(results))
        (staging / REPORT_FILE).write_text(report, encoding="utf-8")
    for row in rows:
        log.info("%s", _describe(row))
    return {"output": Location(config.output).uri, **summary}


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


def _select_test_images(manifest: Manifest) -> Manifest:
    """Return the test images that have a class.

    Raises:
        UserError: there are no classes or no test images.
    """
    table = manifest.table
    if "label" not in table.column_names:
        raise UserError(
            f"{manifest.root}: layout {manifest.layout} has no classes: expected the layout pets, "
            "or a manifest with a column label"
        )
    is_test = pc.and_(pc.equal(table["split"], "gallery"), pc.is_valid(table["label"]))
    indices = np.flatnonzero(is_test.to_numpy())
    if not len(indices):
        raise UserError(f"{manifest.root}: no test images: expected images of the split gallery")
    return replace(manifest, table=table.take(indices))


def _load_models(config: CompareConfig, manifest: Manifest) -> dict[str, LoadedModel]:
    """Load the models, and check that each predicts the classes of the data.

    Raises:
        UserError: there is no model, or a model predicts other classes.
    """
    if not config.models:
        raise UserError("nothing to compare: name trained networks with `models=NAME=DIR`")
    models = {name: load_model(folder) for name, folder in config.model_folders.items()}
    for name, model in models.items():
        folder, architecture = config.model_folders[name], model.architecture
        if architecture.options.task != "pets":
            raise UserError(
                f"model {name}={folder} predicts no classes: its network is "
                f"{architecture.name!r}; leave it out"
            )
        if architecture.num_classes != len(manifest.classes):
            raise UserError(
                f"model {name}={folder} predicts {architecture.num_classes} classes and "
                f"{manifest.root} has {len(manifest.classes)}: compare networks "
                "that were trained on these data"
            )
    return models


def _evaluate_on_cluster(
    model: LoadedModel, test: Manifest, config: CompareConfig
) -> NetworkResult:
    """Evaluate a network on the test images in a Ray task."""
    files = image_files(test, model.architecture, group_by_row(test))
    mode = choose_ingest_mode(files, "auto")
    resources = plan_workers(1, config.use_gpu, streams=mode == "stream")
    crops = ingest(files, mode)
    report_bad_images(crops, len(files.paths), config.max_bad)
    labels = CropLabels.from_manifest(test, "gallery").take_decoded(crops.indices)
    return resources.run(_evaluate, model, crops, labels, resources)


def _evaluate(
    model: LoadedModel,
    crops: CropDataset,
    labels: CropLabels,
    resources: Resources,
) -> NetworkResult:
    """Evaluate a network on the test images in this process."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = model.network.to(device), crops.open()
    no_attributes = np.zeros(0, dtype=np.int64)
    evaluation = evaluate_network(
        network, source, labels, no_attributes, MultitaskLossConfig(), device
    )
    shown = labels.indices[:: max(1, len(labels) // NUM_SHOWN)][:NUM_SHOWN]
    (group,) = source.read([shown])
    if group.masks is None:
        return NetworkResult(evaluation, group.crops, None)
    with torch.inference_mode():
        logits = network(image_tensor(group.crops, device)).masks
    return NetworkResult(evaluation, group.crops, (logits[:, 0] > 0).cpu().numpy())


def _to_row(name: str, model: LoadedModel, result: NetworkResult) -> dict[str, Any]:
    """Return the row of the table; None where a value is unknown."""
    summary, seconds = result.evaluation.summary, model.card.metrics.get("training_seconds")
    keys = ("accuracy", "macro_f1", "weighted_f1", "mask_f1", "mask_iou", "image_iou")
    return {
        "method": name,
        "network": model.architecture.name,
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "test_images": result.evaluation.images,
        **{key: round(summary[key], 4) if key in summary else None for key in keys},
        "training_seconds": None if seconds is None else round(seconds, 1),
        "inference_seconds": round(result.evaluation.seconds, 3),
    }


def _reported_pets(results: dict[str, NetworkResult]) -> list[ReportedPet]:
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


def _describe(row: dict[str, Any]) -> str:
    """Return the metrics of a network as one line."""
    metrics = [
        f"{name} {row[key]:.3f}"
        for key, name in (("accuracy", "accuracy"), ("macro_f1", "F1"), ("mask_f1", "mask F1"))
        if row[key] is not None
    ]
    seconds = row["training_seconds"]
    training = "n/a" if seconds is None else f"{seconds:,.0f} s"
    inference = f"{row['inference_seconds']:.1f} s"
    return f"{row['method']}: {', '.join(metrics)}; training {training}, inference {inference}"
