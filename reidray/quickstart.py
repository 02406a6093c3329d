"""Run all steps on synthetic people: demo set, training, scoring and evaluation."""

import csv
import logging
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reidray.baselines.pca import PCABaseline
from reidray.config import QuickstartConfig, TrainReidConfig
from reidray.config.scoring import EvaluateConfig, ScoreConfig
from reidray.data.images.decoding import decode_files
from reidray.data.reading.image_folders import list_images
from reidray.demo import generate_demo_set
from reidray.evaluation.ranking_evaluation import evaluate_ranking_files
from reidray.metrics import evaluate
from reidray.progress import Activity
from reidray.quickstart_folder import DATA_FOLDER, RUN_FOLDER, SCORES_FOLDER
from reidray.scoring.nightly_run import run_nightly
from reidray.scoring.scoring_paths import ATTRIBUTE_FILE, RANKING_FILE
from reidray.storage.location import Location
from reidray.training.execution.ray_trainer import RayEngine
from reidray.training.orchestration import build_experiment, decode_images, train_experiment
from reidray.training.runs.run_directory import TrainingRun

log = logging.getLogger("reidray")

PCA_SIZE = (64, 32)
"""Height and width of the crops that the PCA baseline compares."""

SHOWN_METRICS = (
    "mean_ap",
    "rank1",
    "rank5",
    "rank10",
    "attribute_accuracy",
    "attribute_majority",
)


def run_quickstart(
    config: QuickstartConfig,
    training: TrainReidConfig,
    session: AbstractContextManager[None],
    folder: Path,
) -> dict[str, Any]:
    """Draw a demo set, train on it, score its test images and evaluate the scores.

    Args:
        config: seed and number of workers.
        training: configuration of the training. The function fills in data, output, seed and
            workers.
        session: connection to Ray, which the function opens once the set is drawn.
        folder: folder of the results.

    Returns:
        Paths of the results, metrics, and the seconds of each step.

    Raises:
        UserError: a folder cannot be written, or the cluster is too small.
    """
    data, run, scores = (folder / name for name in (DATA_FOLDER, RUN_FOLDER, SCORES_FOLDER))
    seconds: dict[str, float] = {}
    started = time.time()
    with Activity("drawing people"):
        generate_demo_set(data, seed=config.seed)
    seconds["draw"] = time.time() - started
    log.info("drew a demo set into %s in %.1f s", data, seconds["draw"])
    training = replace(
        training, data=str(data), output=str(run), seed=config.seed, num_workers=config.num_workers
    )
    experiment = build_experiment(training)
    with session:
        training_started = time.time()
        engine = RayEngine()
        decoded = decode_images(experiment, engine)
        training_run = train_experiment(decoded, engine, started=training_started)
        scoring_started = time.time()
        seconds["train"] = scoring_started - training_started
        run_nightly(
            ScoreConfig(
                model=training_run.model,
                queries=str(data / "queries"),
                gallery=str(data / "test"),
                output=str(scores),
            )
        )
        seconds["score"] = time.time() - scoring_started
    metrics = _evaluate_scores(data, scores)
    with Activity("comparing with PCA of the pixels"):
        pca_rank1 = evaluate_pca(data)
    _log_results(metrics, pca_rank1, training_run, scores, data)
    return {
        "data": str(data),
        "run": str(run),
        "model": training_run.model,
        "report": training_run.report,
        "ranking": str(scores / RANKING_FILE),
        "attributes": str(scores / ATTRIBUTE_FILE),
        **{name: round(value, 4) for name, value in metrics.items()},
        "pca_rank1": round(pca_rank1, 4),
        "parts": {name: round(value, 1) for name, value in seconds.items()},
    }


def evaluate_pca(data: Path) -> float:
    """Return the rank-1 of a PCA of the pixels on the test images of a demo set."""
    location = Location(str(data))
    names = {part: list_images(location.join(part)) for part in ("train", "queries", "test")}
    crops = {
        part: decode_files(location, [f"{part}/{name}" for name in names[part]], PCA_SIZE).crops
        for part in names
    }
    with (data / "truth" / "people.csv").open(newline="") as file:
        person_of = {row["file"]: int(row["person"]) for row in csv.DictReader(file)}
    person_ids = {
        part: np.array([person_of[f"{part}/{name}"] for name in names[part]])
        for part in ("queries", "test")
    }
    baseline = PCABaseline.fit(crops["train"])
    ranking = evaluate(
        baseline.embed(crops["queries"]),
        baseline.embed(crops["test"]),
        person_ids["queries"],
        person_ids["test"],
        protocol="all",
    )
    return float(ranking.cmc[0])


def _evaluate_scores(data: Path, scores: Path) -> dict[str, float]:
    """Return the metrics of the score files against the truth of the demo set."""
    metrics = evaluate_ranking_files(
        EvaluateConfig(
            ranking=str(scores / RANKING_FILE),
            truth=str(data / "truth" / "reid_truth.json"),
            attributes=str(scores / ATTRIBUTE_FILE),
            attributes_truth=str(data / "truth" / "classification_truth.csv"),
        )
    ).metrics
    return {name: metrics[name] for name in SHOWN_METRICS}


def _log_results(
    metrics: dict[str, float],
    pca_rank1: float,
    training_run: TrainingRun,
    scores: Path,
    data: Path,
) -> None:
    """Log the metrics and the paths of the results."""
    log.info(
        "\nOn %s, people the network never saw:\n"
        "  Rank-1 %.3f, mAP %.3f (PCA of the pixels: Rank-1 %.3f)\n"
        "  attributes %.3f right, mean of 12 (always the most frequent: %.3f)\n\n"
        "Look at\n  %s\n  %s\n  %s",
        data / "queries",
        metrics["rank1"],
        metrics["mean_ap"],
        pca_rank1,
        metrics["attribute_accuracy"],
        metrics["attribute_majority"],
        training_run.report,
        scores / RANKING_FILE,
        scores / ATTRIBUTE_FILE,
    )
