"""Run the `reidray` command, whose subcommands are the jobs."""

import sys
from importlib import import_module
from importlib.metadata import version

from reidray.cli.job import Job, is_run_by_uv
from reidray.suggestions import quoted, suggest_name
from reidray.terminal import print_message, print_result, set_up_streams

JOB_NAMES = (
    "quickstart",
    "train-reid",
    "train-multitask",
    "tune",
    "score-nightly",
    "embed",
    "evaluate",
    "compare",
    "export",
    "recommend",
    "forget",
)


def main() -> None:
    """Run the job that the command line names, and end the process where it does not succeed."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in JOB_NAMES:
        runner = "uv run " if is_run_by_uv() else ""
        load_job(name).main(words, command=f"{runner}reidray {name}")
        return
    set_up_streams()
    if name == "--version":
        print_result(f"reidray {version('reidray')}")
    elif name in ("-h", "--help"):
        print_result(format_jobs())
    else:
        print_message(f"error: job {quoted(name)} does not exist: {suggest_name(name, JOB_NAMES)}")
        sys.exit(2)


def load_job(name: str) -> Job:
    """Return a job by the name of its subcommand."""
    module = import_module(f"reidray.cli.jobs.{name.replace('-', '_')}")
    job: Job = module.JOB
    return job


def format_jobs() -> str:
    """Return the help of the command, with a line for each job."""
    width = max(map(len, JOB_NAMES)) + 2
    lines = [f"  {name:{width}}{load_job(name).description}" for name in JOB_NAMES]
    return "\n".join(
        [
            "usage: reidray JOB [FLAGS]",
            "",
            "Person re-identification and multi-task image models on a Ray cluster.",
            "",
            "jobs:",
            *lines,
            "",
            "reidray JOB --help explains the flags of a job; reidray --version prints the version.",
        ]
    )
