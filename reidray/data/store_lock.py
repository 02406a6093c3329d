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
from typing import Any
from uuid import uuid4

from reidray.data import object_store
from reidray.data.storage import Location
from reidray.errors import UserError

LOCK_FILE = "writing.json"
RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A lock that was not written anew for so long is that of a run that was killed."""


@contextmanager
def writing_alone(location: Location) -> Iterator["StoreLock"]:
    """Keep everybody else from writing a folder of an object store.

    Waits for half a minute where the lock may be that of a run that was killed.

    Raises:
        UserError: another run holds the lock, or the store cannot be written.
    """
    lock = StoreLock(location)
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


class StoreLock:
    """The right to write a folder of an object store."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._uri = location.join(LOCK_FILE).uri
        self._holder = {"run": uuid4().hex, "host": socket.gethostname(), "process": os.getpid()}
        self._tag = ""
        self._renewals = 0
        self._one_at_a_time = threading.Lock()
        self._done = threading.Event()
        self._lost = False

    def take(self) -> None:
        """Take the lock.

        Raises:
            UserError: another run holds it.
        """
        while not self._write(IfNoneMatch="*"):
            stale = self._stale_tag()
            if stale is not None and self._write(IfMatch=stale):
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
        """Let others write."""
        self._done.set()
        if not self._lost:
            self._location.delete_file(LOCK_FILE)

    def _renew(self) -> bool:
        """Write the lock anew; whether it was still held."""
        with self._one_at_a_time:
            self._lost = self._lost or not self._write(IfMatch=self._tag)
            return not self._lost

    def _stale_tag(self) -> str | None:
        """The tag of a lock whose holder was killed; None where the lock is gone.

        Raises:
            UserError: its holder lives.
        """
        before = self._found()
        end = time.monotonic() + STALE_SECONDS
        while before is not None and time.monotonic() < end:
            time.sleep(RENEW_SECONDS / 2)
            now = self._found()
            if now is None:
                return None
            if now["ETag"] != before["ETag"]:
                raise UserError(
                    f"{self._location.uri}: another run is writing it "
                    f"({self._uri} says which); wait for its end, or name "
                    "another place"
                )
        return None if before is None else str(before["ETag"])

    def _found(self) -> dict[str, Any] | None:
        try:
            return object_store.call_s3(
                self._uri, "head_object", Key=object_store.key_of(self._uri)
            )
        except FileNotFoundError:
            return None

    def _write(self, **condition: str) -> bool:
        """Write the lock, if the condition holds; whether it did."""
        self._renewals += 1
        body = json.dumps(self._holder | {"renewals": self._renewals}).encode()
        try:
            written = object_store.call_s3(
                self._uri, "put_object", Key=object_store.key_of(self._uri), Body=body, **condition
            )
        except OSError as error:
            if "pre-condition" in str(error):
                return False
            raise
        self._tag = str(written["ETag"])
        return True
