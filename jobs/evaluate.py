"""Judge a ranking, attributes, two files of features, or a model on a labelled set."""

import sys
from functools import partial
from typing import Any

from reidray.cli.job import parse_config, run_job

EXAMPLE = "--ranking scores/reid_test.txt --truth truth.json"


def evaluate() -> dict[str, Any]:
    """What the command line asks for."""
    from reidray.config.scoring import EvaluateConfig

    asked = parse_config(EvaluateConfig, sys.argv[1:], description=__doc__, example=EXAMPLE)
    config = asked.config

    from reidray.evaluation.evaluation_paths import (
        check_evaluate_inputs,
        check_evaluate_outputs,
    )
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    check_evaluate_inputs(config)
    check_evaluate_outputs(config)  # before PyTorch loads

    from reidray.evaluation.evaluation_files import publish

    if config.model is not None:
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.evaluation.model_evaluation import evaluate_model
            from reidray.ray_runtime import ray_session

        session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
        return publish(config.output, partial(evaluate_model, config, session))

    if config.query_features is not None:
        from reidray.evaluation.feature_evaluation import evaluate_feature_files

        return publish(config.output, partial(evaluate_feature_files, config))

    from reidray.evaluation.ranking_evaluation import evaluate_ranking_files

    return publish(config.output, partial(evaluate_ranking_files, config))


if __name__ == "__main__":
    run_job(evaluate)
