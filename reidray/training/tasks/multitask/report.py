"""Evaluate the best epoch of a multi-task training, and build its report."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from reidray.config import MultitaskLossConfig, TrainMultitaskConfig
from reidray.config.sections.open_section import config_to_dict
from reidray.data.ingest.crop_dataset import CropDataset
from reidray.metrics.attribute_metrics import majority_labels
from reidray.models.directory import ModelCard
from reidray.models.networks import Network
from reidray.progress import Activity
from reidray.reporting.dataset_figures.figures import (
    DatasetFigures,
    count_images,
    group_by_target,
    sample_sections,
)
from reidray.reporting.dataset_figures.pictures import Picture, PictureRow, PictureSection
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
from reidray.training.tasks.multitask.label_evaluation import (
    LabelEvaluation,
    Mistake,
    evaluate_network,
)
from reidray.training.tasks.multitask.task import FILL
from reidray.training.tasks.report_images import image_source

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
        write_html=partial(
            write_multitask_report,
            config=settings,
            summary=summary,
            figures=_dataset_figures(experiment, crops),
            mistakes=_mistake_section(experiment, crops, final.mistakes, final_split),
        ),
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


def _dataset_figures(experiment: Experiment, crops: CropDataset) -> DatasetFigures:
    """Return the counts and pictures of the images that the report shows."""
    config, labels = experiment.config, experiment.labels
    train = labels["train"]
    counts = count_images({SPLIT_NAMES[split]: part for split, part in labels.items()})
    if config.no_images:
        return DatasetFigures(counts)
    sections = sample_sections(
        image_source(crops, experiment.manifest),
        train,
        group_by_target(train),
        config.augment,
        seed=config.seed,
        fill=FILL,
    )
    shows_people = not train.classes or bool((train.person_ids > 0).any())
    return DatasetFigures(counts, sections, shows_people=shows_people)


def _mistake_section(
    experiment: Experiment, crops: CropDataset, mistakes: Sequence[Mistake], split: str
) -> PictureSection | None:
    """Return pictures of confident wrong predictions; None without any, or without pictures."""
    if experiment.config.no_images or not mistakes:
        return None
    source = image_source(crops, experiment.manifest)
    indices = np.array([mistake.index for mistake in mistakes])
    captions = [
        f"label {each.label}, predicted {each.predicted} ({each.probability:.1%}), "
        f"{source.name(each.index)}"
        for each in mistakes
    ]
    rows: dict[str, list[Picture]] = {}
    for mistake, picture in zip(mistakes, source.pictures(indices, captions), strict=True):
        rows.setdefault(mistake.target, []).append(picture)
    per_person = (
        " Labels belong to a person, so that each attribute shows a person once."
        if "class" not in rows
        else ""
    )
    return PictureSection(
        "Images that look mislabelled",
        f"The wrong predictions on the {split} images with the highest probability.{per_person}",
        tuple(
            PictureRow(name.replace("_", " ").capitalize(), tuple(pictures))
            for name, pictures in rows.items()
        ),
    )
