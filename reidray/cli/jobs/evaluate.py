"""Evaluate rankings, attributes, features or a model."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.scoring import EvaluateConfig


def evaluate(arguments: "JobArguments[EvaluateConfig]") -> dict[str, Any]:
    """Evaluate what the configuration names."""
    from reidray.evaluation.evaluation_run import (
        check_evaluate_inputs,
        check_evaluate_outputs,
        run_evaluation,
    )
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    config, session, starts_ray = arguments.config, None, False
    check_evaluate_inputs(config)
    check_evaluate_outputs(config)  # before PyTorch loads

    if config.model is not None:
        with Activity("loading PyTorch", delay=SHOW_AFTER_SECONDS):
            import reidray.evaluation.model_evaluation  # noqa: F401
            from reidray.ray_runtime import gpu_setting

        session = arguments.session.connect(needs_gpu=gpu_setting(config.use_gpu))
        starts_ray = arguments.session.starts_ray
    return run_evaluation(config, session, starts_ray=starts_ray)


JOB = Job(
    name="evaluate",
    description=(
        "Evaluate a ranking, attributes, two files of features, or a model on a labelled set."
    ),
    example="--ranking scores/reid_test.txt --truth truth.json",
    config="reidray.config.scoring:EvaluateConfig",
    run=evaluate,
)
