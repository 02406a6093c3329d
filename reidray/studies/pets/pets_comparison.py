"""Compare trained pets networks on the test images, and write their metrics and a page."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from reidray.comparison.compare_checks import (
    COMPARISON_FILES,
    METRICS_FILE,
    REPORT_FILE,
    TABLE_FILE,
)
from reidray.config.comparison import CompareConfig
from reidray.data.layouts import read_manifest
from reidray.data.manifest import Manifest
from reidray.errors import UserError
from reidray.models import LoadedModel, load_model
from reidray.storage.csv_files import write_csv_records
from reidray.storage.location import Location
from reidray.storage.publishing import atomic_output
from reidray.studies.pets.network_evaluation import NetworkResult, evaluate_networks
from reidray.studies.pets.pet_data_figures import build_data_figures, image_source
from reidray.studies.pets.pet_features import NEIGHBOURS
from reidray.studies.pets.pets_page import render_pets_page
from reidray.studies.pets.training_runs import read_training_metrics

log = logging.getLogger("reidray")


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
    with atomic_output(config.output, COMPARISON_FILES, METRICS_FILE) as staging:
        manifest = read_manifest(
            config.data, config.layout, root=config.root, follow_links=config.follow_links
        )
        images = _select_images(manifest)
        models = _load_models(config, manifest)
        with session or nullcontext():
            results = evaluate_networks(models, images, config)
        rows = [_to_row(name, models[name], result) for name, result in results.items()]
        summary = {
            "task": config.task,
            "data": manifest.root,
            "dataset": manifest.summary,
            "methods": rows,
        }
        paths = images.table["path"]
        details = {name: result.to_json(paths) for name, result in results.items()}
        record = json.dumps(summary | {"test": details}, indent=2)
        (staging / METRICS_FILE).write_text(record + "\n", encoding="utf-8")
        (staging / TABLE_FILE).write_bytes(write_csv_records(rows))
        page = _render_page(config, manifest, images, models, rows, results)
        (staging / REPORT_FILE).write_text(page, encoding="utf-8")
    for row in rows:
        log.info("%s", _describe(row))
    return {"output": Location(config.output).uri, **summary}


def _select_images(manifest: Manifest) -> Manifest:
    """Return the training and test images that have a class.

    Raises:
        UserError: there are no classes or no test images.
    """
    table = manifest.table
    if "label" not in table.column_names:
        raise UserError(
            f"{manifest.root}: layout {manifest.layout} has no classes: expected the layout pets, "
            "or a manifest with a column label"
        )
    has_class = pc.is_valid(table["label"])
    is_test = pc.and_(pc.equal(table["split"], "gallery"), has_class)
    if not pc.any(is_test).as_py():
        raise UserError(f"{manifest.root}: no test images: expected images of the split gallery")
    is_train = pc.and_(pc.equal(table["split"], "train"), has_class)
    return replace(manifest, table=table.filter(pc.or_(is_train, is_test)).combine_chunks())


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


def _render_page(
    config: CompareConfig,
    manifest: Manifest,
    images: Manifest,
    models: Mapping[str, LoadedModel],
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, NetworkResult],
) -> str:
    """Read the images that the page shows, and render the page.

    Args:
        config: the configuration of the comparison.
        manifest: all images of the data.
        images: training and test images of known classes.
        models: the networks by name.
        rows: the rows of table.csv.
        results: the results of each network by its name.
    """
    shows_images = not config.no_images
    decoded = next(iter(results.values())).decoded
    figures = build_data_figures(
        manifest, images, decoded, models, seed=config.seed, shows_images=shows_images
    )
    sources = {
        name: image_source(images, model.architecture.size)
        for name, model in models.items()
        if shows_images
    }
    trainings = read_training_metrics(config.model_folders)
    return render_pets_page(manifest.root, rows, results, trainings, figures, sources)


def _to_row(name: str, model: LoadedModel, result: NetworkResult) -> dict[str, Any]:
    """Return the row of the table; None where a value is unknown."""
    summary, seconds = result.evaluation.summary, model.card.metrics.get("training_seconds")
    keys = ("accuracy", "macro_f1", "weighted_f1", "mask_f1", "mask_iou", "image_iou")
    nearest = result.neighbours
    return {
        "method": name,
        "network": model.architecture.name,
        "parameters": sum(weights.numel() for weights in model.network.parameters()),
        "test_images": result.evaluation.images,
        **{key: round(summary[key], 4) if key in summary else None for key in keys},
        f"nearest{NEIGHBOURS}_accuracy": None if nearest is None else round(nearest.accuracy, 4),
        "training_seconds": None if seconds is None else round(seconds, 1),
        "inference_seconds": round(result.evaluation.seconds, 3),
    }


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
