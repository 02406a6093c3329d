"""Search the settings of a training."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.tuning import TuneConfig


def tune(arguments: "JobArguments[TuneConfig]") -> dict[str, Any]:
    """Run a new sweep, or go on with one."""
    from reidray.config.data_sources import join_values
    from reidray.interrupts import set_resume_command
    from reidray.progress import SHOW_AFTER_SECONDS, Activity
    from reidray.tuning.sweep_inputs import SWEEP_FILE, check_tune_inputs, claim_sweep_folder

    config = arguments.config
    check_tune_inputs(config)
    with claim_sweep_folder(config) as output:  # before PyTorch and Ray load
        with Activity("loading PyTorch and Ray", delay=SHOW_AFTER_SECONDS):
            from reidray.tuning.sweep import prepare_sweep, run_sweep

        with Activity(f"reading {join_values(config.data)}", delay=SHOW_AFTER_SECONDS):
            sweep = prepare_sweep(config, output)
        set_resume_command(arguments.command_to_resume(), once=output.folder / SWEEP_FILE)
        session = arguments.session.connect(
            dashboard=sweep.experiment.config.workers > 1,
            needs_gpu=sweep.experiment.config.gpu_setting,
        )
        with session:
            return run_sweep(sweep, started=arguments.started)


JOB = Job(
    name="tune",
    description="Train a recipe many times under settings that vary, and keep the best.",
    example="--data CROPS --recipe reid_small --space learning_rate --output sweep",
    config="reidray.config.tuning:TuneConfig",
    run=tune,
)
