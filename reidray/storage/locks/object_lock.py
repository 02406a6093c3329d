"""Lock a folder of an object store for one writer.

A lock is an object that only one process can create. Its holder renews the lock every few seconds.
If the renewals stop, the holder was killed, and the next run takes over the lock.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.locks.conditional_writes import create_object, object_state, replace_object

LOCK_FILE = "writing.json"
RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
"""The age at which a lock that was not renewed counts as that of a killed run."""


@contextmanager
def lock_location(location: Location) -> Iterator["ObjectLock"]:
    """Hold the lock of a folder of an object store while the block runs.

    If there is a lock already, wait for up to half a minute to see whether its holder renews it.

    Raises:
        UserError: another run holds the lock, or the store cannot be written.
    """
    lock = ObjectLock(location)
    try:
        lock.acquire()
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: cannot be written ({reason}); check the address and the "
            "AWS_ variables"
        ) from None
    renewing = threading.Thread(target=lock.renew_until_released, daemon=True)
    renewing.start()
    try:
        yield lock
    finally:
        lock.release()
        renewing.join()


def is_lock(location: Location) -> bool:
    """Return whether the object with the name of a lock is a lock, or does not exist."""
    try:
        found = json.loads(location.read_bytes(LOCK_FILE))
    except FileNotFoundError:
        return True
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "run" in found


class ObjectLock:
    """Hold the lock of a folder of an object store."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._uri = location.join(LOCK_FILE).uri
        self._run = uuid4().hex
        self._holder = {"run": self._run, "host": socket.gethostname(), "process": os.getpid()}
        self._tag = ""
        self._renewals = 0
        self._one_at_a_time = threading.Lock()
        self._done = threading.Event()
        self._lost = False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UserError: another run holds the lock, or an object of another kind has its name.
            OSError: the object store failed.
        """
        while not self._write():
            if not is_lock(self._location):
                raise UserError(
                    f"{self._uri}: is not the lock of a run; move this object away, or name "
                    "another place"
                )
            stale = self._stale_tag()
            if stale is not None and self._write(stale):
                return

    def check_held(self) -> None:
        """Check that this run still holds the lock.

        Raises:
            UserError: another run took over the lock, as this run had not renewed it in time.
        """
        if not self._renew():
            raise UserError(
                f"{self._location.uri}: another run began to write it, as this run had not renewed "
                "its lock in time; run it again"
            )

    def renew_until_released(self) -> None:
        """Renew the lock every few seconds until it is released."""
        while not self._done.wait(RENEW_SECONDS):
            try:
                self._renew()
            except OSError:  # the next renewal may succeed, and `check_held` decides
                continue

    def release(self) -> None:
        """Delete the lock, unless another run took it over."""
        self._done.set()
        with self._one_at_a_time:
            found = object_state(self._uri)
            if found is not None and found.writer == self._run:
                self._location.delete_file(LOCK_FILE)

    def _renew(self) -> bool:
        """Renew the lock, and return whether this run still held it."""
        with self._one_at_a_time:
            self._lost = self._lost or not self._write(self._tag)
            return not self._lost

    def _stale_tag(self) -> str | None:
        """Return the tag of a lock whose holder was killed; None if the lock is gone.

        Raises:
            UserError: the holder renewed the lock.
        """
        before = object_state(self._uri)
        end = time.monotonic() + STALE_SECONDS
        while before is not None and time.monotonic() < end:
            time.sleep(RENEW_SECONDS / 2)
            now = object_state(self._uri)
            if now is None:
                return None
            if now.tag != before.tag:
                raise UserError(
                    f"{self._location.uri}: another run is writing it "
                    f"({self._uri} names it); wait for its end, or name "
                    "another place"
                )
        return None if before is None else before.tag

    def _write(self, expected: str = "") -> bool:
        """Write the lock, and return whether this run holds it.

        Args:
            expected: the tag of the lock to replace; empty to create a new lock.
        """
        self._renewals += 1
        body = json.dumps(self._holder | {"renewals": self._renewals}).encode()
        if expected:
            tag = replace_object(self._uri, body, expected, self._run)
        else:
            tag = create_object(self._uri, body, self._run)
        self._tag = tag or self._tag
        return tag is not None
