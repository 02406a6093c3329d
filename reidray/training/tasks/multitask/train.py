"""Training a network that says several things of an image, from images to a run directory."""

from typing import Any

import torch

from reidray.data.ingest import CropDataset
from reidray.models.directory import ModelCard
from reidray.models.networks import Network
from reidray.progress import Activity
from reidray.reporting.multitask_report import (
    MultitaskSummary,
    SplitMetrics,
    render_multitask_card,
    write_multitask_report,
)
from reidray.training.experiment import TrainingResult, plain, train, write_model
from reidray.training.ray_trainer import Resources
from reidray.training.tasks.multitask.label_evaluation import LabelEvaluation, evaluate_network
from reidray.training.tasks.multitask.prepare import PARTS, MultitaskExperiment


def train_multitask(experiment: MultitaskExperiment, *, started: float) -> dict[str, Any]:
    """Train a network that says several things of an image. Ray is connected.

    Args:
        experiment: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, or the cluster cannot place the workers.
    """
    done = train(experiment, started=started)
    return finish_multitask(done.experiment, done.result, done.crops, done.resources)


def _evaluate_parts(
    experiment: MultitaskExperiment, crops: CropDataset, network: Network, resources: Resources
) -> dict[str, LabelEvaluation]:
    """How good a network is on each part, by its name."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = network.to(device).eval(), crops.open()
    return {
        PARTS[split]: evaluate_network(
            network, source, part, experiment.labelling, experiment.config.loss, device
        )
        for split, part in experiment.images.items()
    }


def finish_multitask(
    experiment: MultitaskExperiment,
    result: TrainingResult,
    crops: CropDataset,
    resources: Resources,
) -> dict[str, Any]:
    """Judge the best epoch on each part, and leave it as a model directory, and the report.

    Returns:
        What was made and its figures.
    """
    images = sum(len(part.rows) for part in experiment.images.values())
    with Activity(f"judging the best epoch on {images:,} images"):
        evaluations = resources.run(_evaluate_parts, experiment, crops, result.network, resources)
    run, state = experiment.run, result.trainer_state
    parts = {name: part.to_json() for name, part in evaluations.items()}
    card = ModelCard(
        metric="",
        training_data=experiment.manifest.fingerprint,
        recipe=plain(experiment.config),
        metrics=state.best | {"training_seconds": result.seconds, "parts": parts},
    )
    findings = MultitaskSummary(
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
    )
    page = render_multitask_card(card.recipe, findings)
    with Activity("writing the model and the report"):
        write_model(run, result.network, experiment.architecture, card, page)
        write_multitask_report(run.folder / "report.html", config=card.recipe, summary=findings)
        run.share()
    judged = evaluations.get("test", evaluations["validation"])
    return {
        "run": run.location.uri,
        "model": run.uri("model"),
        "report": run.uri("report.html"),
        "epochs": state.epoch,
        "steps": state.step,
        "best_epoch": state.best_epoch,
        "judged_on": "test" if "test" in evaluations else "validation",
        **{
            name: round(value, 4)
            for name, value in judged.summary.items()
            if isinstance(value, float)
        },
        "training_seconds": round(result.seconds, 1),
        "inference_seconds": round(judged.seconds, 3),
        "bad_images": len(crops.bad),
        "dataset": experiment.manifest.summary,
    }
