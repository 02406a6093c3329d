"""Run an evaluation of ranking and attribute files, of feature files, or of a model.

This module imports neither PyTorch nor Ray, so that a job reports a wrong path at once.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from reidray.config.scoring import EvaluateConfig
from reidray.data.layouts import check_layout
from reidray.evaluation.evaluation_result import (
    EVALUATION_FILES,
    METRICS_FILE,
    EvaluationResult,
    write_evaluation,
)
from reidray.storage.input_checks import (
    NEEDED_MODEL_FILES,
    check_data,
    check_file,
    check_folder,
    check_folders,
)
from reidray.storage.location import Location
from reidray.storage.output_checks import check_disjoint
from reidray.storage.publishing import atomic_output, check_output


def run_evaluation(
    config: EvaluateConfig,
    session: AbstractContextManager[None] | None = None,
    *,
    starts_ray: bool = False,
) -> dict[str, Any]:
    """Evaluate the files or the model of a configuration, and publish the result.

    Args:
        config: the evaluation.
        session: connection to Ray, which only the evaluation of a model opens, after all checks,
            where it is needed (see `RayConnection`).
        starts_ray: whether `session` starts Ray on this machine, with the GPUs of this machine.

    Returns:
        The metrics, with the output folder.

    Raises:
        UserError: an input or the output is not usable. The output folder is then untouched.
    """
    if config.is_cross_domain:
        return _run_cross_domain(config, session, starts_ray=starts_ray)
    evaluate = partial(_evaluate, session=session, starts_ray=starts_ray)
    if config.output is None:
        return evaluate(config).metrics
    with atomic_output(config.output, EVALUATION_FILES, METRICS_FILE) as staging:
        result = evaluate(config)
        write_evaluation(staging, result)
    return {"output": Location(config.output).uri, **result.metrics}


def _run_cross_domain(
    config: EvaluateConfig, session: AbstractContextManager[None] | None, *, starts_ray: bool
) -> dict[str, Any]:
    """Evaluate models on sets, log the table of both, and publish it as a page and as JSON."""
    from reidray.evaluation.cross_domain.matrix_evaluation import evaluate_matrix  # imports PyTorch
    from reidray.evaluation.cross_domain.matrix_files import write_matrix

    if config.output is None:
        return evaluate_matrix(config, session, starts_ray=starts_ray).to_json()
    with atomic_output(config.output, EVALUATION_FILES, METRICS_FILE) as staging:
        matrix = evaluate_matrix(config, session, starts_ray=starts_ray)
        write_matrix(staging, matrix)
    return {"output": Location(config.output).uri, **matrix.to_json()}


def _evaluate(
    config: EvaluateConfig, session: AbstractContextManager[None] | None, *, starts_ray: bool
) -> EvaluationResult:
    if config.model is not None:
        from reidray.evaluation.model_evaluation import evaluate_model  # imports PyTorch

        return evaluate_model(config, session, starts_ray=starts_ray)
    if config.query_features is not None:
        from reidray.evaluation.feature_evaluation import evaluate_feature_files  # imports PyTorch

        return evaluate_feature_files(config)
    from reidray.evaluation.ranking_evaluation import evaluate_ranking_files

    return evaluate_ranking_files(config)


def check_evaluate_inputs(config: EvaluateConfig) -> None:
    """Check that the inputs of an evaluation exist.

    Raises:
        UserError: an input is missing; the message names its field.
    """
    check_folders("model", config.model, holds=NEEDED_MODEL_FILES)
    check_data("data", config.data)
    check_layout(config.data, config.layout, follow_links=config.follow_links)
    check_folder("gallery", config.gallery)
    for name in ("ranking", "truth", "attributes", "attributes_truth"):
        check_file(name, getattr(config, name))
    check_file("query_features", config.query_features)
    check_file("gallery_features", config.gallery_features)


def check_evaluate_outputs(config: EvaluateConfig) -> None:
    """Check that an evaluation can write its output, apart from its inputs.

    Raises:
        UserError: the folder cannot be written, holds other files, or overlaps with an input.
    """
    if config.output is None:
        return
    inputs = {
        "ranking": config.ranking,
        "truth": config.truth,
        "gallery": config.gallery,
        "attributes": config.attributes,
        "attributes_truth": config.attributes_truth,
        "query_features": config.query_features,
        "gallery_features": config.gallery_features,
        "model": config.model,
        "data": config.data,
    }
    check_disjoint("output", config.output, inputs)
    check_output(config.output, EVALUATION_FILES, METRICS_FILE)
