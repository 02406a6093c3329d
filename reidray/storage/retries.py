"""Send requests to an object store again after transient errors, and count the retries."""

import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 10.0

_TRANSIENT_ERROR = re.compile(
    r"SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT"
    r"|REQUEST_TIME_TOO_SKEWED|THROTTLING|HTTP status (?:429|5\d\d)|ends after|curlCode"
)


class _RetryCounter:
    """Count the retries of this process, from several threads."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """Add one retry."""
        with self._lock:
            self.count += 1


_retries = _RetryCounter()


def retry_count() -> int:
    """Return the number of requests that this process has sent again after transient errors."""
    return _retries.count


def with_retries(request: Callable[[], Answer]) -> Answer:
    """Return the answer to a request, and send the request again after transient errors.

    Transient errors are those of a busy store, a broken connection, a timeout and an answer that is
    cut off. The wait between attempts doubles, up to `LONGEST_WAIT_SECONDS`.

    Args:
        request: sends the request; called up to `ATTEMPTS` times.

    Raises:
        OSError: the last attempt failed, or the error is not transient, such as a refused key.
    """
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except OSError as error:
            if attempt == ATTEMPTS - 1 or not _TRANSIENT_ERROR.search(str(error)):
                raise
        _retries.add()
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
        time.sleep(random.uniform(longest / 2, longest))
    raise AssertionError("unreachable")
