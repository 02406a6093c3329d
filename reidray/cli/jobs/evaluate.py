"""Evaluate rankings, attributes, features or a model."""

from functools import partial
from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.scoring import EvaluateConfig


def evaluate(arguments: "JobArguments[EvaluateConfig]") -> dict[str, Any]:
    """Evaluate what the configuration names."""
    from reidray.evaluation.evaluation_paths import (
        check_evaluate_inputs,
        check_evaluate_outputs,
    )
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    config = arguments.config
    check_evaluate_inputs(config)
    check_evaluate_outputs(config)  # before PyTorch loads

    from reidray.evaluation.evaluation_files import publish

    if config.model is not None:
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.evaluation.model_evaluation import evaluate_model
            from reidray.ray_runtime import ray_session

        session = ray_session(arguments.session.ray_address, verbose=arguments.session.verbose)
        return publish(config.output, partial(evaluate_model, config, session))

    if config.query_features is not None:
        from reidray.evaluation.feature_evaluation import evaluate_feature_files

        return publish(config.output, partial(evaluate_feature_files, config))

    from reidray.evaluation.ranking_evaluation import evaluate_ranking_files

    return publish(config.output, partial(evaluate_ranking_files, config))


JOB = Job(
    name="evaluate",
    description=(
        "Evaluate a ranking, attributes, two files of features, or a model on a labelled set."
    ),
    example="--ranking scores/reid_test.txt --truth truth.json",
    config="reidray.config.scoring:EvaluateConfig",
    run=evaluate,
)
