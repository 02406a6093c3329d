"""Training a network that recognises people, from images to a run directory."""

from typing import Any

import numpy as np

from reidray.data.ingest import CropDataset
from reidray.models.directory import ModelCard
from reidray.progress import Activity
from reidray.reporting.model_card import render_model_card
from reidray.reporting.run_report import write_run_report
from reidray.reporting.run_summary import DataSummary
from reidray.training.experiment import TrainingResult, plain, train, write_model
from reidray.training.tasks.reid.prepare import ReidExperiment


def train_reid(experiment: ReidExperiment, *, started: float) -> dict[str, Any]:
    """Train a network that recognises people. Ray is connected.

    Args:
        experiment: what to train.
        started: seconds since 1970 at which the job began, for its time limit.

    Returns:
        What was made and its figures.

    Raises:
        UserError: too many images are bad, a person has none left, or the cluster cannot place the
            workers.
    """
    done = train(experiment, started=started)
    return finish_reid(done.experiment, done.result, done.crops)


def _summarise(experiment: ReidExperiment, crops: CropDataset) -> DataSummary:
    """The data, for the pages that people read."""
    train, validation = experiment.parts
    return DataSummary(
        root=experiment.manifest.root,
        layout=experiment.manifest.layout,
        train_images=len(train.rows),
        train_people=len(np.unique(train.people)),
        val_images=len(validation.rows),
        val_people=len(np.unique(validation.people)),
        cameras=len(np.unique(train.cameras[train.cameras >= 0])),
        bad_images=tuple(f"{image.path}: {image.reason}" for image in crops.bad),
        notes=experiment.manifest.notes,
    )


def finish_reid(
    experiment: ReidExperiment, result: TrainingResult, crops: CropDataset
) -> dict[str, Any]:
    """Leave the best epoch as a model directory, and the report.

    Returns:
        What was made and its figures.
    """
    summary = _summarise(experiment, crops)
    run, config, state = experiment.run, plain(experiment.config), result.trainer_state
    card = ModelCard(
        metric=experiment.config.validation.metric,
        training_data=experiment.manifest.fingerprint,
        recipe=config,
        metrics=state.best | {"training_seconds": result.seconds},
    )
    page = render_model_card(config, state.best, state.best_epoch, summary)
    with Activity("writing the model and the report"):
        write_model(run, result.network, experiment.architecture, card, page)
        write_run_report(
            run.folder / "report.html",
            config=config,
            records=result.records,
            best_epoch=state.best_epoch,
            data=summary,
        )
        run.share()
    shown = ("mean_ap", "rank1", "rank5", "rank10", "mean_inp")
    optional = ("attribute_accuracy", "attribute_majority")
    figures = {name: state.best[name] for name in (*shown, *optional) if name in state.best}
    return {
        "run": run.location.uri,
        "model": run.uri("model"),
        "report": run.uri("report.html"),
        "epochs": state.epoch,
        "steps": state.step,
        "best_epoch": state.best_epoch,
        **{name: round(value, 4) for name, value in figures.items()},
        "protocol": state.best["protocol"],
        "bad_images": len(summary.bad_images),
        "dataset": experiment.manifest.summary,
    }
