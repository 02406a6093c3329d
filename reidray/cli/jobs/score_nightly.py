"""Rank a gallery for new query images, and predict its attributes."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.scoring import ScoreConfig


def score_nightly(arguments: "JobArguments[ScoreConfig]") -> dict[str, Any]:
    """Run the nightly scoring, or plan it."""
    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.scoring.scoring_paths import check_score_inputs, check_score_outputs

    config = arguments.config
    check_score_inputs(config)
    check_score_outputs(config)  # before PyTorch loads

    with Activity("loading PyTorch", delay=SHOW_AFTER_SECONDS):
        from reidray.ray_runtime import gpu_setting

        if arguments.plan:
            from reidray.scoring.planning.night_plan import plan_nightly as run
        else:
            from reidray.scoring.nightly_run import run_nightly as run

    session = arguments.session.connect(needs_gpu=gpu_setting(config.use_gpu))
    return run(config, session, starts_ray=arguments.session.starts_ray)


JOB = Job(
    name="score-nightly",
    description=(
        "Score a night's images: rank the gallery for every query and predict its attributes."
    ),
    example="--model RUN/model --queries QUERIES --gallery GALLERY --output scores",
    config="reidray.config.scoring:ScoreConfig",
    run=score_nightly,
)
