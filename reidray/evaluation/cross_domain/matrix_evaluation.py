"""Evaluate each of some models on each of some labelled sets."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from reidray.config.data_sources import as_tuple, pair_sources
from reidray.config.scoring import EvaluateConfig
from reidray.data.joined_manifests import name_datasets, number_repeated
from reidray.evaluation.model_evaluation import (
    LabelledSet,
    embed_for_evaluation,
    evaluate_predictions,
    read_labelled_set,
)
from reidray.inference.runs.embedding_engine import RayConnection
from reidray.inference.runs.run_timing import StageTimer
from reidray.models import LoadedModel, load_person_model
from reidray.storage.location import Location
from reidray.terminal import align_columns

log = logging.getLogger("reidray")

COLUMNS = {"mean_ap": "mAP", "rank1": "Rank-1", "mean_inp": "mINP"}
"""Metrics of the table, and their names in it."""


@dataclass(frozen=True)
class EvaluatedModel:
    """Hold the metrics of one model on each set.

    Attributes:
        directory: the model directory.
        images_per_second: images of all sets by the seconds of their embedding, which include the
            start of the processes, reading and decoding.
        metrics: metrics as those of an evaluation on one set, by the name of the set.
    """

    directory: str
    images_per_second: float
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CrossDomainMatrix:
    """Hold the metrics of some models on some sets.

    Attributes:
        datasets: the folders of the sets by their names.
        models: the models by their names.
    """

    datasets: Mapping[str, str]
    models: Mapping[str, EvaluatedModel]

    def to_json(self) -> dict[str, Any]:
        """Return the table for the JSON line: the metrics of each model on each set."""
        return {
            "datasets": dict(self.datasets),
            "models": {
                name: {
                    "model": each.directory,
                    "images_per_second": round(each.images_per_second, 1),
                    "datasets": {
                        dataset: {
                            **{column: round(found[column], 4) for column in COLUMNS},
                            "protocol": found["protocol"],
                        }
                        for dataset, found in each.metrics.items()
                    },
                }
                for name, each in self.models.items()
            },
        }


def evaluate_matrix(
    config: EvaluateConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> CrossDomainMatrix:
    """Embed the images of each set once with each model, evaluate them, and log the table.

    Args:
        config: evaluation of one or more models on one or more sets.
        session: connection to Ray, opened after all checks, where it is needed; by default that
            of this process, or one like that of a job (see `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Raises:
        UserError: a model or a set is not usable, a set has no person ids or does not fit the
            protocol, or too many images do not decode.
    """
    sources = pair_sources(config.data or "", config.layout)
    directories = _name_models(as_tuple(config.model or ""))
    models = {name: load_person_model(uri) for name, uri in directories.items()}
    names = name_datasets([source.data for source in sources])
    labelled = {
        name: read_labelled_set(config, source) for name, source in zip(names, sources, strict=True)
    }
    evaluated = {}
    with RayConnection(session, StageTimer(), starts_ray=starts_ray) as connection:
        for name, model in models.items():
            log.info("evaluating %s on %s", name, ", ".join(names))
            evaluated[name] = _evaluate_one(config, model, directories[name], labelled, connection)
    datasets = {name: each.manifest.root for name, each in labelled.items()}
    matrix = CrossDomainMatrix(datasets, evaluated)
    for line in format_table(matrix):
        log.info("%s", line)
    return matrix


def format_table(matrix: CrossDomainMatrix) -> list[str]:
    """Return the lines of a table with a row for each model and a column for each set."""
    head = " / ".join(COLUMNS.values())
    rows = [[f"{head} in %", *matrix.datasets, "images/s"]]
    for name, each in matrix.models.items():
        cells = [
            " / ".join(f"{100 * found[column]:.1f}" for column in COLUMNS)
            for found in each.metrics.values()
        ]
        rows.append([name, *cells, f"{each.images_per_second:,.0f}"])
    return align_columns(rows)


def _evaluate_one(
    config: EvaluateConfig,
    model: LoadedModel,
    directory: str,
    labelled: Mapping[str, LabelledSet],
    connection: RayConnection,
) -> EvaluatedModel:
    """Embed the images of all sets with one model, and evaluate each set."""
    parts = {name: each.image_sets(f"{name} ") for name, each in labelled.items()}
    image_sets = [images for both in parts.values() for images in both]
    embedded = embed_for_evaluation(config, model, image_sets, connection)
    metrics = {}
    for name, (query, gallery) in parts.items():
        predictions = embedded.sets[query.name], embedded.sets[gallery.name]
        result = evaluate_predictions(
            config, model, embedded.model_id, labelled[name], *predictions
        )
        metrics[name] = result.metrics
    return EvaluatedModel(directory, embedded.images_per_second, metrics)


def _name_models(directories: Sequence[str]) -> dict[str, str]:
    """Return the model directories by names: that of the run in which a directory `model` lies."""
    locations = [Location(uri) for uri in directories]
    names = [
        each.parent.name if each.name == "model" and each.parent.name else each.name
        for each in locations
    ]
    return dict(zip(number_repeated(names), directories, strict=True))
