"""Jobs that a signal ends: at once, in one line, and with nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from support.paths import ROOT

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

HEAD = """
import os, pathlib, subprocess, sys, threading, time
from reidray.interrupts import set_resume_command
from reidray.cli.job import run_job

def ready(*more):
    print("ready", *more, flush=True)

def job():
"""


def set_signals(ignored=()):
    """Let this process ignore some signals, and heed the others that end jobs.

    A shell that starts the tests in the background lets them ignore SIGINT, and `nohup` SIGHUP.
    """
    for number in STATUS:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def start(body, ignored=()):
    """A job in a process of its own, once it has printed `ready`."""
    script = f"{HEAD}{textwrap.indent(textwrap.dedent(body), '    ')}\nrun_job(job)\n"
    job = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: set_signals(ignored),
    )
    assert job.stdout is not None
    line = job.stdout.readline()
    assert line.startswith("ready"), job.communicate()
    return job, line.split()[1:]


def send(job, number):
    """Send a signal; returns the exit status, stderr and the seconds it took."""
    began = time.monotonic()
    job.send_signal(number)
    try:
        out, messages = job.communicate(timeout=30)
    finally:
        job.kill()  # or it would run beside the tests that follow
    assert out == ""
    return job.returncode, messages, time.monotonic() - began


@pytest.mark.parametrize(
    ("doing", "number"),
    [
        *(("time.sleep(60)", number) for number in STATUS),
        ("threading.Event().wait()", signal.SIGTERM),
        ("while True: pass", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_job_with_one_line_and_its_status(number, doing):
    job, _ = start(f"ready()\n{doing}")
    status, messages, seconds = send(job, number)
    assert status == STATUS[number]
    named = "" if number == signal.SIGINT else f" by {number.name}"
    assert messages == f"interrupted{named}\n"
    assert seconds < 3


def test_an_interrupted_job_cleans_up(tmp_path):
    job, _ = start(
        f"""
        import tempfile
        with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):
            ready()
            time.sleep(60)
        """
    )
    assert send(job, signal.SIGTERM)[:2] == (143, "interrupted by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


def test_what_swallows_an_interruption_does_not_keep_a_job_alive():
    job, _ = start(
        """
        class Callback:
            def __del__(self):
                ready()
                time.sleep(60)
        Callback()
        time.sleep(60)
        """
    )
    status, messages, seconds = send(job, signal.SIGTERM)
    assert (status, messages) == (143, "interrupted by SIGTERM\n")
    assert seconds < 3


STUBBORN = """
    ready()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_a_job_that_will_not_end_is_ended_before_ray_would_kill_it():
    status, messages, seconds = send(start(STUBBORN)[0], signal.SIGTERM)
    assert status == 143
    assert messages == "interrupted by SIGTERM\n"
    assert seconds < 3


def test_a_second_signal_ends_a_job_at_once():
    job, _ = start(STUBBORN)
    job.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert job.poll() is None
    status, messages, seconds = send(job, signal.SIGINT)
    assert (status, messages) == (130, "interrupted\n")
    assert seconds < 2


def test_processes_that_a_job_started_end_with_it():
    job, (child, grandchild) = start(
        """
        inner = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
        child = subprocess.Popen(
            [sys.executable, "-c", inner + "; time.sleep(60)"], stdout=subprocess.PIPE, text=True
        )
        ready(child.pid, child.stdout.readline().strip())
        time.sleep(60)
        """
    )
    assert send(job, signal.SIGTERM)[0] == 143
    for pid in (child, grandchild):
        deadline = time.monotonic() + 2
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_line_gives_the_command_that_goes_on_once_there_is_something_to_go_on_with(tmp_path):
    there = tmp_path / "config.yaml"
    body = f"""
        set_resume_command("reidray tune --resume", once=pathlib.Path({str(there)!r}))
        ready()
        time.sleep(60)
    """
    job, _ = start(body)
    assert send(job, signal.SIGTERM)[1] == "interrupted by SIGTERM\n"
    there.touch()
    job, _ = start(body)
    line = "interrupted by SIGTERM: go on with reidray tune --resume\n"
    assert send(job, signal.SIGTERM)[1] == line


def test_a_job_under_nohup_outlives_its_terminal():
    job, _ = start("ready()\ntime.sleep(60)", ignored={signal.SIGHUP})
    job.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert job.poll() is None
    assert send(job, signal.SIGTERM)[0] == 143


def test_processes_that_a_job_forks_can_be_ended():
    job, (child,) = start(
        """
        child = os.fork()
        if child == 0:
            time.sleep(60)
        ready(child)
        time.sleep(60)
        """
    )
    os.kill(int(child), signal.SIGTERM)
    deadline = time.monotonic() + 2
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert send(job, signal.SIGTERM)[0] == 143


def test_a_job_is_interrupted_while_it_imports():
    command = [sys.executable, "jobs/score_nightly.py", "--model", "m", "--queries", "q"]
    job = subprocess.Popen(
        [*command, "--gallery", "g", "--output", "o"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=set_signals,
    )
    assert job.stderr is not None
    while "reidray.cli.arguments" not in job.stderr.readline():
        assert job.poll() is None
    job.send_signal(signal.SIGINT)
    _, messages = job.communicate(timeout=30)
    assert job.returncode == 130
    told = [line for line in messages.splitlines() if not line.startswith("import time:")]
    assert told == ["interrupted"]


def is_alive(pid):
    """Return whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
