"""Compare baselines and trained models."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.comparison import CompareConfig


def compare(arguments: "JobArguments[CompareConfig]") -> dict[str, Any]:
    """Compare on people, or on pets."""
    from reidray.comparison.compare_checks import check_compare_inputs, check_compare_output
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    config = arguments.config
    check_compare_inputs(config)
    check_compare_output(config)  # before PyTorch loads

    with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
        from reidray.comparison.reid_comparison import compare_reid
        from reidray.ray_runtime import gpu_setting
        from reidray.studies.pets.pets_comparison import compare_pets

    session = arguments.session.connect(needs_gpu=gpu_setting(config.use_gpu))
    if config.task == "pets":
        return compare_pets(config, session)
    return compare_reid(config, session)


JOB = Job(
    name="compare",
    description="Compare classical baselines and trained models on one gallery and its queries.",
    example="--data CROPS --models mine=RUN/model --output compared",
    config="reidray.config.comparison:CompareConfig",
    run=compare,
)
