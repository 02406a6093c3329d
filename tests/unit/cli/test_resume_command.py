"""The command that resumes a run names what the job was started with."""

import pytest

from reidray.cli.arguments import parse_arguments
from reidray.config import TrainReidConfig


@pytest.mark.parametrize(
    ("flags", "variable", "added"),
    [
        ([], None, ""),
        ([], "none", " --ray-address none"),
        ([], "10.0.0.7:6379", ""),  # Ray sets it for a submitted job
        (["--ray-address", "local"], "none", " --ray-address local"),
        (["--ray-address", "none"], None, " --ray-address none"),
    ],
)
def test_a_run_resumes_without_ray_where_it_trained_without(monkeypatch, flags, variable, added):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    arguments = parse_arguments(
        TrainReidConfig, ["--data", "crops", *flags], command="reidray train-reid"
    )
    assert arguments.command_to_resume_run("runs/a") == f"reidray train-reid --resume runs/a{added}"
