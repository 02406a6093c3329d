"""Errors of the library name fields; a job names its flags."""

import logging

import pytest
from ray.exceptions import RayTaskError

from reidray.cli.arguments import job_flags
from reidray.cli.messages import name_flags, naming_flags
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.config.comparison import CompareConfig
from reidray.errors import MachineError, UserError

REID = job_flags(TrainReidConfig)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`num_workers` is 8", "--num-workers is 8"),
        ("use `network.name=apr`", "use --network.name apr"),
        ("`batch.spread_cameras=True` or not", "--batch.spread-cameras or not"),
        ("use `strict=False`", "use --no-strict"),
        ("go on by `resume=s3://b/run 1`", "go on by --resume s3://b/run 1"),
        ("or `ray_address=local`", "or --ray-address local"),
        ("lower `batch_size`", "lower `batch_size`"),
        ("lines such as `epochs: 60`", "lines such as `epochs: 60`"),
        ("run `uv sync`, then `Epochs`", "run `uv sync`, then `Epochs`"),
    ],
)
def test_fields_of_the_job_become_flags_and_other_text_stays(message, shown):
    assert name_flags(message, REID) == shown


def test_a_field_becomes_a_flag_only_where_the_job_has_one():
    assert name_flags("`batch_size`", job_flags(TrainMultitaskConfig)) == "--batch-size"
    flags = job_flags(CompareConfig)
    assert name_flags("`models=a=DIR`", flags) == "--models a=DIR"
    assert name_flags("`resume` and `recipe`", flags) == "`resume` and `recipe`"


@pytest.mark.parametrize("kind", [UserError, MachineError])
def test_an_error_keeps_its_kind(kind):
    with pytest.raises(kind, match=r"^raise --epochs$"), naming_flags(REID):
        raise kind("raise `epochs`")


def test_an_error_of_a_ray_task_names_flags_too():
    error = RayTaskError("task", "its traceback", UserError("raise `epochs`"))
    with pytest.raises(UserError, match=r"^raise --epochs$"), naming_flags(REID):
        raise error.as_instanceof_cause()


def test_a_logged_message_names_flags_while_the_job_runs(caplog):
    log = logging.getLogger("reidray")
    with naming_flags(REID):
        log.warning("raise `epochs=%d`, %s", 9, "or `batch.people`")
    log.warning("raise `epochs`")
    assert caplog.messages == ["raise --epochs 9, or --batch.people", "raise `epochs`"]
