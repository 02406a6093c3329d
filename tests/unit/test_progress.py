import time

from reidray import progress
from reidray.progress import describe_seconds, warn_when_slow


def test_a_line_says_what_is_waited_for_once_it_takes_long_and_none_before(caplog, monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.2)
    with warn_when_slow("reading %s", "/crops/a%s.jpg"):
        pass
    time.sleep(0.4)
    assert caplog.messages == []
    with warn_when_slow("reading %s", "/crops/a%s.jpg"):
        time.sleep(0.5)
    assert caplog.messages == ["reading /crops/a%s.jpg: no answer for 0 s"]


def test_times_are_said_in_seconds_or_minutes():
    assert [describe_seconds(seconds) for seconds in (5, 60, 900)] == ["5 s", "60 s", "15 minutes"]
