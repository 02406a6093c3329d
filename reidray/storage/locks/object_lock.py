"""One writer at a time for a folder of an object store.

A lock is an object that only one can create. Its holder writes it anew every few seconds; where
that ends, the holder was killed, and the next run takes the lock over.
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
"""A lock that was not written anew for so long is that of a run that was killed."""


@contextmanager
def lock_location(location: Location) -> Iterator["ObjectLock"]:
    """Keep everybody else from writing a folder of an object store.

    Waits for half a minute where the lock may be that of a run that was killed.

    Raises:
        UserError: another run holds the lock, or the store cannot be written.
    """
    lock = ObjectLock(location)
    try:
        lock.take()
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{location.uri}: cannot be written ({reason}); check the address and the "
            "AWS_ variables"
        ) from None
    renewing = threading.Thread(target=lock.renew_until_given_back, daemon=True)
    renewing.start()
    try:
        yield lock
    finally:
        lock.give_back()
        renewing.join()


def is_lock(location: Location) -> bool:
    """Tell whether the object with a lock's name is a lock, or is not there."""
    try:
        found = json.loads(location.read_bytes(LOCK_FILE))
    except FileNotFoundError:
        return True
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "run" in found


class ObjectLock:
    """The right to write a folder of an object store."""

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

    def take(self) -> None:
        """Take the lock.

        Raises:
            UserError: another run holds it, or an object of another kind has its name.
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

    def check(self) -> None:
        """Go on only while the lock is held.

        Raises:
            UserError: another run took it over, as this one seemed to be dead.
        """
        if not self._renew():
            raise UserError(
                f"{self._location.uri}: another run began to write it, as this one had not been "
                "heard of; run it again"
            )

    def renew_until_given_back(self) -> None:
        """Write the lock anew every few seconds."""
        while not self._done.wait(RENEW_SECONDS):
            try:
                self._renew()
            except OSError:  # a store that fails now may answer next time; `check` is what decides
                continue

    def give_back(self) -> None:
        """Let others write; a lock that another run took over stays."""
        self._done.set()
        with self._one_at_a_time:
            found = object_state(self._uri)
            if found is not None and found.writer == self._run:
                self._location.delete_file(LOCK_FILE)

    def _renew(self) -> bool:
        """Write the lock anew; whether it was still held."""
        with self._one_at_a_time:
            self._lost = self._lost or not self._write(self._tag)
            return not self._lost

    def _stale_tag(self) -> str | None:
        """The tag of a lock whose holder was killed; None where the lock is gone.

        Raises:
            UserError: its holder lives.
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
                    f"({self._uri} says which); wait for its end, or name "
                    "another place"
                )
        return None if before is None else before.tag

    def _write(self, expected: str = "") -> bool:
        """Write the lock; whether this run holds it then.

        Args:
            expected: the tag of the lock to replace; empty where there must be none.
        """
        self._renewals += 1
        body = json.dumps(self._holder | {"renewals": self._renewals}).encode()
        if expected:
            tag = replace_object(self._uri, body, expected, self._run)
        else:
            tag = create_object(self._uri, body, self._run)
        self._tag = tag or self._tag
        return tag is not None
