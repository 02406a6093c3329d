"""The time that a job waits for resources, and the range of an elastic training."""

import pytest

from reidray.cli.arguments import SessionConfig, parse_arguments
from reidray.config import TrainReidConfig
from reidray.config.sections.durations import parse_duration
from reidray.errors import UserError


@pytest.mark.parametrize("text", ["10", "m", "5 mm", "ten minutes", "", "1h30m", "9" * 50])
def test_a_time_of_another_form_is_refused_with_the_form(text):
    with pytest.raises(
        ValueError, match=r"`wait_for_resources` is .*: expected a time such as 90s"
    ):
        parse_duration(text, "wait_for_resources")
    with pytest.raises(UserError, match=r"--wait-for-resources is .*: expected a time such as 90s"):
        parse_arguments(TrainReidConfig, ["--data", "CROPS", "--wait-for-resources", text])


def test_a_command_to_resume_waits_as_long():
    words = ["--data", "CROPS", "--wait-for-resources", "90s"]
    asked = parse_arguments(TrainReidConfig, words)
    assert asked.session == SessionConfig(wait_for_resources="90s")
    assert asked.command_to_resume_run("RUN") == "reidray --resume RUN --wait-for-resources 90s"


def test_the_number_of_workers_may_be_left_to_the_cluster():
    asked = parse_arguments(TrainReidConfig, ["--data", "CROPS", "--num-workers", "auto"])
    assert (asked.config.num_workers, asked.config.workers) == ("auto", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-workers", "many"], "expected a whole number"),
        (["--min-workers", "0"], "--min-workers must be 1 or more"),
        (["--min-workers", "3"], "--min-workers is 3, above --num-workers, which is 1"),
        (["--min-workers", "1", "--num-workers", "4", "--auto-batch"], "fixed number of workers"),
    ],
)
def test_a_range_of_workers_that_makes_no_sense_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse_arguments(TrainReidConfig, ["--data", "CROPS", *words])
