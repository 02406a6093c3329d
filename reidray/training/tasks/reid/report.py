"""Build the report of a re-ID training."""

from functools import partial
from typing import Any

import numpy as np

from reidray.config.sections.open_section import config_to_dict
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.models.directory import ModelCard
from reidray.reporting.dataset_figures.figures import (
    DatasetFigures,
    count_images,
    group_by_person,
    sample_sections,
)
from reidray.reporting.model_card import render_model_card
from reidray.reporting.run_report import write_run_report
from reidray.reporting.run_summary import DatasetCounts, DataSummary
from reidray.training.execution.resources import Resources
from reidray.training.experiment import (
    Experiment,
    TrainingReport,
    TrainingResult,
)
from reidray.training.loop import Metrics
from reidray.training.tasks.reid.task import FILL
from reidray.training.tasks.report_images import image_source

METRICS = (
    "mean_ap",
    "rank1",
    "rank5",
    "rank10",
    "mean_inp",
    "attribute_accuracy",
    "attribute_majority",
)
"""Metrics of the job's JSON line, where the validation has them."""


def build_reid_report(
    experiment: Experiment,
    result: TrainingResult,
    crops: CropDataset,
    _: Resources,
) -> TrainingReport:
    """Build the report of a re-ID training from the validation of its best epoch.

    Args:
        experiment: training on the images that decode.
        result: result of the training.
        crops: decoded images.
    """
    config, state = config_to_dict(experiment.config), result.trainer_state
    data = _summarize_data(experiment, crops)
    metrics = {name: round(state.best[name], 4) for name in METRICS if name in state.best}
    return TrainingReport(
        card=ModelCard(
            metric=config["validation"]["metric"],
            training_data=experiment.manifest.fingerprint,
            recipe=config,
            metrics=state.best | {"training_seconds": result.seconds},
        ),
        readme=render_model_card(config, state.best, state.best_epoch, data),
        write_html=partial(
            write_run_report,
            config=config,
            records=result.records,
            best_epoch=state.best_epoch,
            data=data,
            figures=_dataset_figures(experiment, crops),
            first_weights=experiment.weights.report,
        ),
        metrics={**metrics, "protocol": state.best["protocol"], **_dataset_metrics(state.best)},
    )


def _dataset_figures(experiment: Experiment, crops: CropDataset) -> DatasetFigures:
    """Return the counts and pictures of the images that the report shows."""
    config, labels = experiment.config, experiment.labels
    counts = count_images({"training": labels["train"], "validation": labels["val"]})
    if config.no_images:
        return DatasetFigures(counts)
    sections = sample_sections(
        image_source(crops, experiment.manifest),
        labels["train"],
        group_by_person(labels["train"], experiment.manifest.person_ids),
        config.augment,
        seed=config.seed,
        fill=FILL,
    )
    return DatasetFigures(counts, sections, shows_people=True)


def _dataset_metrics(best: Metrics) -> dict[str, Any]:
    """Return the metrics of each data set for the JSON line, where several are joined."""
    by_name = best.get("datasets", {})
    rounded = {
        dataset: {name: round(found[name], 4) for name in METRICS if name in found}
        for dataset, found in by_name.items()
    }
    return {"per_dataset": rounded} if rounded else {}


def _summarize_data(experiment: Experiment, crops: CropDataset) -> DataSummary:
    """Return the numbers of images, people and cameras of a training."""
    train, validation = experiment.labels["train"], experiment.labels["val"]
    return DataSummary(
        datasets=_count_datasets(experiment),
        root=experiment.manifest.root,
        layout=experiment.manifest.layout,
        train_images=len(train),
        train_people=train.num_people,
        val_images=len(validation),
        val_people=validation.num_people,
        cameras=len(np.unique(train.camera_ids[train.camera_ids >= 0])),
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=experiment.manifest.notes,
    )


def _count_datasets(experiment: Experiment) -> tuple[DatasetCounts, ...]:
    """Return the numbers of images and people of each data set, where several are joined."""
    if not experiment.manifest.datasets:
        return ()
    parts = [experiment.labels[split].by_dataset() for split in ("train", "val")]
    return tuple(
        DatasetCounts(
            name=name,
            layout=origin.layout,
            train_images=len(parts[0][name]),
            train_people=parts[0][name].num_people,
            val_images=len(parts[1][name]),
            val_people=parts[1][name].num_people,
        )
        for name, origin in experiment.manifest.datasets.items()
    )
