"""Evaluate the best epoch of a multi-task training, and build its report."""

from functools import partial

import torch

from reidray.config import MultitaskLossConfig, TrainMultitaskConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.metrics.attribute_metrics import majority_labels
from reidray.models.directory import ModelCard
from reidray.models.networks import Network
from reidray.progress import Activity
from reidray.reporting.multitask_report import (
    MultitaskSummary,
    SplitMetrics,
    render_multitask_card,
    write_multitask_report,
)
from reidray.training.execution.resources import Resources
from reidray.training.experiment import (
    Experiment,
    Labels,
    TrainingReport,
    TrainingResult,
)
from reidray.training.tasks.multitask.label_evaluation import LabelEvaluation, evaluate_network

SPLIT_NAMES = {"train": "training", "val": "validation", "gallery": "test"}
"""Names of the splits in reports and messages."""


def build_multitask_report(
    experiment: Experiment, result: TrainingResult, crops: CropDataset, resources: Resources
) -> TrainingReport:
    """Evaluate the best epoch on each split, in a Ray task, and build the report.

    Args:
        experiment: training on the images that decode.
        result: result of the training.
        crops: decoded images.
        resources: resources of the Ray task.
    """
    config, labels = experiment.config, experiment.labels
    assert isinstance(config, TrainMultitaskConfig)
    images = sum(len(part) for part in labels.values())
    with Activity(f"evaluating the best epoch on {images:,} images"):
        evaluations = resources.run(
            _evaluate_splits, config.loss, labels, crops, result.network, resources
        )
    state, settings = result.trainer_state, config_to_dict(config)
    summary = MultitaskSummary(
        root=experiment.manifest.root,
        layout=experiment.manifest.layout,
        records=result.records,
        best_epoch=state.best_epoch,
        training_seconds=result.seconds,
        parts={
            name: SplitMetrics(part.images, part.seconds, part.summary, part.labels)
            for name, part in evaluations.items()
        },
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=experiment.manifest.notes,
        first_weights=experiment.weights.report,
    )
    final_split = "test" if "test" in evaluations else "validation"
    final = evaluations[final_split]
    final_metrics = {
        name: round(value, 4) for name, value in final.summary.items() if isinstance(value, float)
    }
    return TrainingReport(
        card=ModelCard(
            metric="",
            training_data=experiment.manifest.fingerprint,
            recipe=settings,
            metrics=state.best
            | {
                "training_seconds": result.seconds,
                "parts": {name: part.to_json() for name, part in evaluations.items()},
            },
        ),
        readme=render_multitask_card(settings, summary),
        write_html=partial(write_multitask_report, config=settings, summary=summary),
        metrics={
            "judged_on": final_split,
            **final_metrics,
            "training_seconds": round(result.seconds, 1),
            "inference_seconds": round(final.seconds, 3),
        },
    )


def _evaluate_splits(
    weights: MultitaskLossConfig,
    labels: Labels,
    crops: CropDataset,
    network: Network,
    resources: Resources,
) -> dict[str, LabelEvaluation]:
    """Return the evaluation of a network on each split, by the split's name."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, reader = network.to(device).eval(), crops.open()
    majority = majority_labels(labels["train"].attribute_labels, labels["train"].schema)
    return {
        SPLIT_NAMES[split]: evaluate_network(network, reader, part, majority, weights, device)
        for split, part in labels.items()
    }
