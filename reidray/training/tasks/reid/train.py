"""Training a network that recognises people, from images to a run directory."""

from typing import Any

import numpy as np

from reidray.data.ingest import IngestedCrops
from reidray.models.directory import ModelCard
from reidray.progress import Activity
from reidray.reporting.model_card import render_model_card
from reidray.reporting.run_report import write_run_report
from reidray.reporting.run_summary import DataSummary
from reidray.training.run import Learned, plain, train, write_model
from reidray.training.tasks.reid.prepare import PreparedReid


def train_reid(prepared: PreparedReid, *, started: float) -> dict[str, Any]:
    """Train a network that recognises people. Ray is connected.

    Args:
        prepared: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, a person has none left, or the cluster cannot place the
            workers.
    """
    done = train(prepared, started=started)
    return finish_reid(done.prepared, done.learned, done.crops)


def _summarise(prepared: PreparedReid, crops: IngestedCrops) -> DataSummary:
    """The data, for the pages that people read."""
    train, validation = prepared.parts
    return DataSummary(
        root=prepared.manifest.root,
        layout=prepared.manifest.layout,
        train_images=len(train.rows),
        train_people=len(np.unique(train.people)),
        val_images=len(validation.rows),
        val_people=len(np.unique(validation.people)),
        cameras=len(np.unique(train.cameras[train.cameras >= 0])),
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=prepared.manifest.notes,
    )


def finish_reid(prepared: PreparedReid, learned: Learned, crops: IngestedCrops) -> dict[str, Any]:
    """Leave the best epoch as a model directory, and the report.

    Returns:
        What was made and its figures.
    """
    summary = _summarise(prepared, crops)
    run, config, standing = prepared.run, plain(prepared.config), learned.standing
    card = ModelCard(
        metric=prepared.config.validation.metric,
        training_data=prepared.manifest.fingerprint,
        recipe=config,
        metrics=standing.best | {"training_seconds": learned.seconds},
    )
    page = render_model_card(config, standing.best, standing.best_epoch, summary)
    with Activity("writing the model and the report"):
        write_model(run, learned.network, prepared.architecture, card, page)
        write_run_report(
            run.folder / "report.html",
            config=config,
            records=learned.records,
            best_epoch=standing.best_epoch,
            data=summary,
        )
        run.share()
    shown = ("mean_ap", "rank1", "rank5", "rank10", "mean_inp")
    optional = ("attribute_accuracy", "attribute_majority")
    figures = {name: standing.best[name] for name in (*shown, *optional) if name in standing.best}
    return {
        "run": run.location.uri,
        "model": run.uri("model"),
        "report": run.uri("report.html"),
        "epochs": standing.epoch,
        "steps": standing.step,
        "best_epoch": standing.best_epoch,
        **{name: round(value, 4) for name, value in figures.items()},
        "protocol": standing.best["protocol"],
        "bad_images": len(summary.bad_images),
        "dataset": prepared.manifest.summary,
    }
