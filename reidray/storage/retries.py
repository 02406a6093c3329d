"""Requests that are sent again while their trouble is one that passes, and how many there were."""

import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 10.0

_PASSING_TROUBLE = re.compile(
    r"SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT"
    r"|REQUEST_TIME_TOO_SKEWED|THROTTLING|HTTP status (?:429|5\d\d)|ends after|curlCode"
)


class _Retries:
    """How many requests of this process were sent again."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.count += 1


_retries = _Retries()


def retry_count() -> int:
    """How many requests this process has sent again after trouble that passes."""
    return _retries.count


def with_retries(request: Callable[[], Answer]) -> Answer:
    """What a request answers, sent again, later each time, while the trouble is one that passes.

    Trouble that passes is a store that is busy, a connection that breaks, an answer that does not
    come or is cut off.

    Raises:
        OSError: the last attempt failed, or with trouble that stays, such as a refused key.
    """
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except OSError as error:
            if attempt == ATTEMPTS - 1 or not _PASSING_TROUBLE.search(str(error)):
                raise
        _retries.add()
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
        time.sleep(random.uniform(longest / 2, longest))
    raise AssertionError("unreachable")
