"""Lines of long work on a terminal and in a log file."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest

from reidray import progress
from reidray.progress import Activity, Counter, Stages

SCRIPT = """
import logging, time
from reidray import progress
from reidray.terminal import set_up_streams
set_up_streams()
progress.LOG_INTERVAL_SECONDS = 0.5
log = logging.getLogger("reidray")
with progress.Activity("starting Ray"):
    time.sleep(1.2)
with progress.Counter("decoding", total=4000, unit="images") as counter:
    time.sleep(0.6)
    counter.advance(3120)
    time.sleep(0.7)
    log.info("set aside: a.jpg")
    time.sleep(0.3)
    counter.advance(880)
print("{}")
"""
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def often(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.4)
    caplog.set_level(logging.INFO, "reidray")


def test_a_log_file_has_whole_lines_now_and_then_without_escape_codes():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert done.stdout == "{}\n"
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert lines[0] == "starting Ray"
    assert lines[1] == "starting Ray, 1 s"
    assert "decoding 4,000 images" in lines
    assert any(line.startswith("decoding 3,120 of 4,000 images, ") for line in lines)
    assert "set aside: a.jpg" in lines
    assert re.fullmatch(r"decoding: 4,000 images in \d\.\d s \(.* images/s\)", lines[-1])
    assert len(lines) <= 10


def test_a_terminal_has_a_line_that_moves_and_is_gone_at_the_end():
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, 100))
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower) as job:
        os.close(follower)
        pieces = []
        with suppress(OSError):  # Linux says so when the other end is closed
            while piece := os.read(leader, 4096):
                pieces.append(piece)
        os.close(leader)
        assert job.stdout.read() == b"{}\n"
    shown = b"".join(pieces).decode()
    text = CODES.sub("", shown)
    assert "starting Ray, 1 s" in text
    assert "decoding 3,120 of 4,000 images" in text
    last = shown[shown.rindex("\x1b[2K") :]
    assert "of 4,000" not in last
    assert "decoding: 4,000 images in" in last
    assert re.search(r"[\r\n]set aside: a\.jpg *\r?\n", text)


def test_of_nested_activities_the_innermost_speaks(caplog):
    with Activity("scoring"), Activity("starting Ray"):
        time.sleep(1)
    lines = caplog.messages
    assert lines[:2] == ["scoring", "starting Ray"]
    assert any(line.startswith("starting Ray, ") for line in lines)
    assert not any(line.startswith("scoring, ") for line in lines)


def test_what_ends_in_a_mistake_at_once_says_nothing_of_itself(caplog):
    with pytest.raises(ValueError, match="bad"), Activity("reading data", delay=0.5):
        raise ValueError("bad")
    assert caplog.messages == []
    with Activity("reading data", delay=0.5):
        time.sleep(1)
    assert caplog.messages[0].startswith("reading data, ")


def test_stages_follow_each_other_and_end_with_the_block(caplog):
    with suppress(ValueError), Stages() as stages:
        stages.begin("listing")
        stages.begin("ranking")
        raise ValueError
    time.sleep(0.8)
    assert caplog.messages == ["listing", "ranking"]


def test_a_count_ends_with_its_pace(caplog):
    with Counter("checking", total=3, unit="images") as counter:
        counter.advance(3)
    assert counter.done == 3
    assert caplog.messages[0] == "checking 3 images"
    assert re.fullmatch(r"checking: 3 images in 0\.\d s \(.* images/s\)", caplog.messages[1])
