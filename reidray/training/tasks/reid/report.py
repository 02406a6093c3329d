"""Build the report of a re-ID training."""

from functools import partial

import numpy as np

from reidray.config.sections.open_section import config_to_dict
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.models.directory import ModelCard
from reidray.reporting.model_card import render_model_card
from reidray.reporting.run_report import write_run_report
from reidray.reporting.run_summary import DataSummary
from reidray.training.execution.resources import Resources
from reidray.training.experiment import (
    Experiment,
    TrainingReport,
    TrainingResult,
)

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
        ),
        metrics={**metrics, "protocol": state.best["protocol"]},
    )


def _summarize_data(experiment: Experiment, crops: CropDataset) -> DataSummary:
    """Return the numbers of images, people and cameras of a training."""
    train, validation = experiment.labels["train"], experiment.labels["val"]
    return DataSummary(
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
