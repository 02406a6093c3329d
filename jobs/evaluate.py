"""Judge the files of a night against a known truth, or a model on a labelled set."""

import sys
from typing import Any

from reidray.job import parse_config, run_job
from reidray.scoring.config import EvaluateConfig


def evaluate() -> dict[str, Any]:
    """What the command line asks for."""
    asked = parse_config(EvaluateConfig, sys.argv[1:], description=__doc__)

    if asked.config.model is None:
        from reidray.scoring.file_evaluation import judge_files

        return judge_files(asked.config)

    from reidray.scoring.model_evaluation import judge_model
    from reidray.session import ray_session

    session = ray_session(asked.session.ray_address, verbose=asked.session.verbose)
    return judge_model(asked.config, session)


if __name__ == "__main__":
    run_job(evaluate)
