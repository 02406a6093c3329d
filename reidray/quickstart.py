"""The whole way once, on drawn people: demo set, training, scoring, figures against the truth."""

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
from reidray.training.orchestration import build_experiment, train_experiment
from reidray.training.runs.training_run import TrainingRun

log = logging.getLogger("reidray")

PCA_SIZE = (64, 32)


def run_quickstart(
    config: QuickstartConfig,
    training: TrainReidConfig,
    session: AbstractContextManager[None],
    folder: Path,
) -> dict[str, Any]:
    """Draw a set, train on it, score its test part and say how good that is.

    Args:
        config: the seed and the workers.
        training: how to train; data, output, seed and workers are filled in.
        session: a connection to Ray, opened after the set is drawn.
        folder: where it goes.

    Returns:
        Folders, figures and seconds of each part.

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
        trained = train_experiment(experiment, started=training_started)
        scoring_started = time.time()
        seconds["train"] = scoring_started - training_started
        run_nightly(
            ScoreConfig(
                model=trained.model,
                queries=str(data / "queries"),
                gallery=str(data / "test"),
                output=str(scores),
            )
        )
        seconds["score"] = time.time() - scoring_started
    figures = _judge(data, scores)
    with Activity("comparing with PCA of the pixels"):
        pca = pca_rank1(data)
    _advise(figures, pca, trained, scores, data)
    return {
        "data": str(data),
        "run": str(run),
        "model": trained.model,
        "report": trained.report,
        "ranking": str(scores / RANKING_FILE),
        "attributes": str(scores / ATTRIBUTE_FILE),
        **{name: round(value, 4) for name, value in figures.items()},
        "pca_rank1": round(pca, 4),
        "parts": {name: round(value, 1) for name, value in seconds.items()},
    }


def pca_rank1(data: Path) -> float:
    """Rank-1 of principal components of the pixels on the demo set's test part."""
    location = Location(str(data))
    crops = {
        part: decode_files(
            location, [f"{part}/{name}" for name in list_images(location.join(part))], PCA_SIZE
        ).crops
        for part in ("train", "queries", "test")
    }
    with (data / "truth" / "people.csv").open(newline="") as file:
        person_of = {row["file"]: int(row["person"]) for row in csv.DictReader(file)}
    people = {
        part: np.array([person_of[f"{part}/{name}"] for name in list_images(location.join(part))])
        for part in ("queries", "test")
    }
    baseline = PCABaseline.fit(crops["train"])
    metrics = evaluate(
        baseline.embed(crops["queries"]),
        baseline.embed(crops["test"]),
        people["queries"],
        people["test"],
        protocol="all",
    )
    return float(metrics.cmc[0])


def _judge(data: Path, scores: Path) -> dict[str, float]:
    """The figures that matter of the scores against the known truth."""
    figures = evaluate_ranking_files(
        EvaluateConfig(
            ranking=str(scores / RANKING_FILE),
            truth=str(data / "truth" / "reid_truth.json"),
            attributes=str(scores / ATTRIBUTE_FILE),
            attributes_truth=str(data / "truth" / "classification_truth.csv"),
        )
    ).metrics
    wanted = ("mean_ap", "rank1", "rank5", "rank10", "attribute_accuracy", "attribute_majority")
    return {name: figures[name] for name in wanted}


def _advise(
    figures: dict[str, float], pca: float, trained: TrainingRun, scores: Path, data: Path
) -> None:
    """What came out, and what to do next."""
    log.info(
        "\nOn %s, people the network never saw:\n"
        "  Rank-1 %.3f, mAP %.3f (PCA of the pixels: Rank-1 %.3f)\n"
        "  attributes %.3f right, mean of 12 (always the most frequent: %.3f)\n\n"
        "Look at\n  %s\n  %s\n  %s\n\n"
        "Next, your own crops: a folder for each person under train/, then\n"
        "  uv run jobs/train_reid.py --data FOLDER --recipe market_small --max-minutes 20\n"
        "  uv run jobs/score_nightly.py --model %s \\\n"
        "    --queries %s --gallery %s --output scores",
        data / "queries",
        figures["rank1"],
        figures["mean_ap"],
        pca,
        figures["attribute_accuracy"],
        figures["attribute_majority"],
        trained.report,
        scores / RANKING_FILE,
        scores / ATTRIBUTE_FILE,
        trained.model,
        data / "queries",
        data / "test",
    )
