"""Write a trained network in the format of other programs."""

from typing import TYPE_CHECKING, Any

from reidray.cli.job import Job

if TYPE_CHECKING:
    from reidray.cli.arguments import JobArguments
    from reidray.config.jobs.exporting import ExportConfig


def export(arguments: "JobArguments[ExportConfig]") -> dict[str, Any]:
    """Export the model of the configuration."""
    from reidray.export.export_checks import check_export
    from reidray.progress import SHOW_AFTER_SECONDS, Activity

    config = arguments.config
    check_export(config)  # before PyTorch loads

    with Activity("loading PyTorch", delay=SHOW_AFTER_SECONDS):
        from reidray.export.export_run import run_export

    return run_export(config)


JOB = Job(
    name="export",
    description=(
        "Write a trained network for other programs: ONNX, torch.export, safetensors or timm."
    ),
    example="--model RUN/model --output reid.onnx",
    config="reidray.config.jobs.exporting:ExportConfig",
    run=export,
)
