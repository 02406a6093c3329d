"""Text that reaches a terminal, and streams that nobody reads."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.terminal import MAX_LINE_LENGTH, printable, printable_lines, shorten_line

NAME = "two\\nlines\\r\\x1b[31m\\u202e\\udcff.jpg"
SHOWN = "two lines \\x1b[31m\\u202e\\udcff.jpg"


def start(body, **streams):
    """A job in a process of its own; returns it once it has ended."""
    script = f"""
        import logging, sys, warnings
        from pathlib import Path
        from reidray.errors import UserError
        from reidray.cli.job import run_job
        log = logging.getLogger("reidray")
        name = "{NAME}"
        def job():
            {body}
            return {{"made": "x"}}
        run_job(job)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(command, text=True, check=False, timeout=60, **streams)


@pytest.mark.parametrize(
    "body",
    [
        "log.info('set aside: %s', name)",
        "log.info('set aside: %s', Path(name))",
        "log.info('set aside: %s', OSError(name))",
        "log.warning('%s: %s', 'set aside', name)",
        "logging.getLogger('reidray.data').warning('set aside: %s', name)",
        "logging.getLogger('PIL').warning('set aside: %s', name)",
    ],
)
def test_a_name_in_a_message_stays_on_its_line_and_acts_on_no_terminal(body):
    done = start(body)
    assert done.returncode == 0
    assert done.stderr == f"set aside: {SHOWN}\n"


def test_a_message_keeps_its_own_lines():
    assert start("log.info('one\\ntwo %d %.1f', 3, 4.0)").stderr == "one\ntwo 3 4.0\n"


def test_a_name_in_a_mistake_or_a_failure_acts_on_no_terminal():
    assert start("raise UserError(f'{name} is gone')").stderr == f"error: {SHOWN} is gone\n"
    failed = start("raise ValueError(name)").stderr
    assert "Traceback" in failed
    assert printable_lines(failed) == failed


@given(st.text())
def test_what_is_printable_is_one_printable_line(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


def test_a_line_about_a_mistake_has_an_end():
    done = start("raise UserError('x' * 10**6)")
    assert done.returncode == 2
    assert len(done.stderr) < MAX_LINE_LENGTH + 100
    assert shorten_line("x" * MAX_LINE_LENGTH) == "x" * MAX_LINE_LENGTH


def test_a_result_that_cannot_be_written_is_no_failure():
    with Path("/dev/full").open("w") as full:
        done = start("log.info('working')", stdout=full)
    assert done.returncode == 0
    working, warning = done.stderr.splitlines()
    assert working == "working"
    assert warning.startswith("warning: the job is done, and its result cannot be written")


def test_a_result_that_nobody_reads_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    done = start("pass", stdout=writing)
    os.close(writing)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the job is done")
    assert done.stderr.count("\n") == 1


def test_messages_that_cannot_be_written_are_no_failure():
    with Path("/dev/full").open("w") as full:
        done = start("log.info('working')", stderr=full)
        assert start("raise UserError('a mistake')", stderr=full).returncode == 2
        assert start("raise KeyError('a bug')", stderr=full).returncode == 1
    assert done.returncode == 0
    assert json.loads(done.stdout)["made"] == "x"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_take_no_file_s_place(closed, tmp_path):
    script = """
        import logging, sys
        from pathlib import Path
        from reidray.cli.job import run_job
        def job():
            file = Path(sys.argv[1]).open("w")
            logging.getLogger("reidray").info("working")
            print("chatter", flush=True)
            file.write("content")
            return {}
        run_job(job)
    """
    file = tmp_path / "file"
    command = f'"$0" -c "$1" "$2" {closed}'
    shell = ["bash", "-c", command, sys.executable, textwrap.dedent(script), file]
    assert subprocess.run(shell, check=False, timeout=60, capture_output=True).returncode == 0
    assert file.read_text() == "content"
