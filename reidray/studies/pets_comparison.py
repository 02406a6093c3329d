"""Trained networks for pets side by side on one test part."""

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from reidray.comparison.compare_checks import FIGURES_FILE, REPORT_FILE, TABLE_FILE
from reidray.config import MultitaskLossConfig
from reidray.config.comparison import CompareConfig
from reidray.data.crop_labels import CropLabels
from reidray.data.images.decoding import check_bad_images
from reidray.data.images.transforms import image_tensor
from reidray.data.ingest import CropDataset, choose_ingest_mode, ingest
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.errors import UserError
from reidray.models import LoadedModel, load_model
from reidray.reporting.charts.encoding import crop_data_uri
from reidray.storage.csv_files import write_csv_records
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.studies.pets_report import ComparedNetwork, DrawnPet, pets_comparison_page
from reidray.training.experiment import image_files
from reidray.training.ray_trainer import Resources, plan_workers
from reidray.training.tasks.multitask.definition import group_by_row
from reidray.training.tasks.multitask.label_evaluation import (
    LabelEvaluation,
    evaluate_network,
)

log = logging.getLogger("reidray")

SHOWN = 6
"""Test images whose masks the page shows."""


@dataclass(frozen=True)
class Examined:
    """What a network made of the test part.

    Attributes:
        evaluation: its figures.
        crops: (S, H, W, 3) uint8, the images whose masks are shown.
        masks: (S, H, W) bool, what it draws of them; None where it draws nothing.
    """

    evaluation: LabelEvaluation
    crops: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None


def compare_pets(
    config: CompareConfig, session: AbstractContextManager[None] | None = None
) -> dict[str, Any]:
    """Compare networks and leave a folder with `comparison.json`, `table.csv` and `report.html`.

    Args:
        config: what to compare.
        session: a connection to Ray, opened once everything has been checked.

    Returns:
        The figures of each network, with the folder.

    Raises:
        UserError: data, a model or the output is not what it should be, or too many images do not
            decode. The output folder is then untouched.
    """
    with atomic_output(config.output) as staging:
        manifest = read_manifest(
            config.data, config.layout, root=config.root, follow_links=config.follow_links
        )
        test = _test_images(manifest)
        models = _load_models(config, manifest)
        with session or nullcontext():
            examined = {name: _examine(model, test, config) for name, model in models.items()}
        figures = [_figures(name, models[name], found) for name, found in examined.items()]
        summary = {
            "task": config.task,
            "data": manifest.root,
            "dataset": manifest.summary,
            "methods": figures,
        }
        record = summary | {"test": {n: e.evaluation.to_json() for n, e in examined.items()}}
        (staging / FIGURES_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (staging / TABLE_FILE).write_bytes(write_csv_records(figures))
        page = pets_comparison_page(
            manifest.root,
            [
                ComparedNetwork(row, found.evaluation.labels["class"])
                for row, found in zip(figures, examined.values(), strict=True)
            ],
            _drawn(examined),
        )
        (staging / REPORT_FILE).write_text(page, encoding="utf-8")
    for row in figures:
        log.info("%s", _line(row))
    return {"output": Location(config.output).uri, **summary}


def _test_images(manifest: Manifest) -> Manifest:
    """Return the test images that have a class.

    Raises:
        UserError: there are none.
    """
    table = manifest.table
    if "label" not in table.column_names:
        raise UserError(
            f"{manifest.root}: layout {manifest.layout} has no classes: expected the layout pets, "
            "or a manifest with a column label"
        )
    chosen = pc.and_(pc.equal(table["split"], "gallery"), pc.is_valid(table["label"]))
    rows = np.flatnonzero(chosen.to_numpy())
    if not len(rows):
        raise UserError(f"{manifest.root}: no test images: expected images of the split gallery")
    return replace(manifest, table=table.take(rows))


def _load_models(config: CompareConfig, manifest: Manifest) -> dict[str, LoadedModel]:
    """The networks, each of which names the data's classes."""
    if not config.models:
        raise UserError("nothing to compare: give trained networks as --models NAME=DIR ...")
    models = {name: load_model(folder) for name, folder in config.model_folders.items()}
    for name, model in models.items():
        folder, architecture = config.model_folders[name], model.architecture
        if architecture.options.task != "pets":
            raise UserError(
                f"model {name}={folder} names no classes: its network is {architecture.name!r}; "
                "leave it out"
            )
        if architecture.num_classes != len(manifest.classes):
            raise UserError(
                f"model {name}={folder} names {architecture.num_classes} classes and "
                f"{manifest.root} has {len(manifest.classes)}: compare networks "
                "that were trained on these data"
            )
    return models


def _examine(
    model: LoadedModel,
    test: Manifest,
    config: CompareConfig,
) -> Examined:
    """Evaluate a network on the test images in a Ray task."""
    files = image_files(test, model.architecture, group_by_row(test))
    way = choose_ingest_mode(files, "auto")
    resources = plan_workers(1, config.use_gpu, streams=way == "stream")
    crops = ingest(files, way)
    check_bad_images(crops.bad, test.table.num_rows, config.max_bad)
    labels = CropLabels.from_manifest(test, "gallery").take_decoded(crops.indices)
    return resources.run(_ask, model, crops, labels, resources)


def _ask(
    model: LoadedModel,
    crops: CropDataset,
    labels: CropLabels,
    resources: Resources,
) -> Examined:
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = model.network.to(device), crops.open()
    no_attributes = np.zeros(0, dtype=np.int64)
    evaluation = evaluate_network(
        network, source, labels, no_attributes, MultitaskLossConfig(), device
    )
    indices = labels.indices[:: max(1, len(labels) // SHOWN)][:SHOWN]
    (group,) = source.read([indices])
    shown = group.crops
    if group.masks is None:
        return Examined(evaluation, shown, None)
    with torch.inference_mode():
        logits = network(image_tensor(shown, device)).masks
    return Examined(evaluation, shown, (logits[:, 0] > 0).cpu().numpy())


def _figures(name: str, model: LoadedModel, found: Examined) -> dict[str, Any]:
    """A network's row of the table; an unknown figure is None."""
    summary, seconds = found.evaluation.summary, model.card.metrics.get("training_seconds")
    keys = ("accuracy", "macro_f1", "weighted_f1", "mask_f1", "mask_iou", "image_iou")
    return {
        "method": name,
        "network": model.architecture.name,
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "test_images": found.evaluation.images,
        **{key: round(summary[key], 4) if key in summary else None for key in keys},
        "training_seconds": None if seconds is None else round(seconds, 1),
        "inference_seconds": round(found.evaluation.seconds, 3),
    }


def _drawn(examined: dict[str, Examined]) -> list[DrawnPet]:
    """The shown images with what each network draws; the rest of the image is darkened."""
    drawing = {name: found for name, found in examined.items() if found.masks is not None}
    return [
        DrawnPet(
            crop_data_uri(next(iter(examined.values())).crops[index]),
            {
                name: crop_data_uri(_darkened(found.crops[index], found.masks[index]))
                for name, found in drawing.items()
                if found.masks is not None
            },
        )
        for index in range(min(len(found.crops) for found in examined.values()))
        if drawing
    ]


def _darkened(crop: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    dark: NDArray[np.uint8] = np.where(mask[..., None], crop, crop // 5)
    return dark


def _line(row: dict[str, Any]) -> str:
    """A network's figures for a person."""
    shares = [
        f"{name} {row[key]:.3f}"
        for key, name in (("accuracy", "accuracy"), ("macro_f1", "F1"), ("mask_f1", "mask F1"))
        if row[key] is not None
    ]
    seconds = row["training_seconds"]
    training = "n/a" if seconds is None else f"{seconds:,.0f} s"
    inference = f"{row['inference_seconds']:.1f} s"
    return f"{row['method']}: {', '.join(shares)}; training {training}, inference {inference}"
