"""Training a network that says several things of an image, from images to a run directory."""

from typing import Any

import torch

from reidray.data.ingest import IngestedCrops
from reidray.models.directory import ModelCard
from reidray.models.networks import Network
from reidray.progress import Activity
from reidray.reporting.multitask_report import (
    MultitaskSummary,
    SplitMetrics,
    render_multitask_card,
    write_multitask_report,
)
from reidray.training.run import Learned, plain, train, write_model
from reidray.training.tasks.multitask.examination import Examination, examine
from reidray.training.tasks.multitask.prepare import PARTS, PreparedMultitask
from reidray.training.trainer import Resources


def train_multitask(prepared: PreparedMultitask, *, started: float) -> dict[str, Any]:
    """Train a network that says several things of an image. Ray is connected.

    Args:
        prepared: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, or the cluster cannot place the workers.
    """
    done = train(prepared, started=started)
    return finish_multitask(done.prepared, done.learned, done.crops, done.resources)


def _examine(
    prepared: PreparedMultitask, crops: IngestedCrops, network: Network, resources: Resources
) -> dict[str, Examination]:
    """How good a network is on each part, by its name."""
    torch.set_num_threads(resources.cpus)
    device = torch.device("cuda" if resources.use_gpu else "cpu")
    network, source = network.to(device).eval(), crops.open()
    return {
        PARTS[split]: examine(
            network, source, part, prepared.labelling, prepared.config.loss, device
        )
        for split, part in prepared.images.items()
    }


def finish_multitask(
    prepared: PreparedMultitask, learned: Learned, crops: IngestedCrops, resources: Resources
) -> dict[str, Any]:
    """Judge the best epoch on each part, and leave it as a model directory, and the report.

    Returns:
        What was made and its figures.
    """
    images = sum(len(part.rows) for part in prepared.images.values())
    with Activity(f"judging the best epoch on {images:,} images"):
        examined = resources.run(_examine, prepared, crops, learned.network, resources)
    run, standing = prepared.run, learned.standing
    parts = {name: part.to_json() for name, part in examined.items()}
    card = ModelCard(
        metric="",
        training_data=prepared.manifest.fingerprint,
        recipe=plain(prepared.config),
        metrics=standing.best | {"training_seconds": learned.seconds, "parts": parts},
    )
    findings = MultitaskSummary(
        root=prepared.manifest.root,
        layout=prepared.manifest.layout,
        records=learned.records,
        best_epoch=standing.best_epoch,
        training_seconds=learned.seconds,
        parts={
            name: SplitMetrics(part.images, part.seconds, part.summary, part.labels)
            for name, part in examined.items()
        },
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=prepared.manifest.notes,
    )
    page = render_multitask_card(card.recipe, findings)
    with Activity("writing the model and the report"):
        write_model(run, learned.network, prepared.architecture, card, page)
        write_multitask_report(run.folder / "report.html", config=card.recipe, findings=findings)
        run.share()
    judged = examined.get("test", examined["validation"])
    return {
        "run": run.location.uri,
        "model": run.uri("model"),
        "report": run.uri("report.html"),
        "epochs": standing.epoch,
        "steps": standing.step,
        "best_epoch": standing.best_epoch,
        "judged_on": "test" if "test" in examined else "validation",
        **{
            name: round(value, 4)
            for name, value in judged.summary.items()
            if isinstance(value, float)
        },
        "training_seconds": round(learned.seconds, 1),
        "inference_seconds": round(judged.seconds, 3),
        "bad_images": len(crops.bad),
        "dataset": prepared.manifest.summary,
    }
