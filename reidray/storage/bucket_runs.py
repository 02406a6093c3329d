"""Publish runs in an object store, which cannot rename folders.

The files of each run lie in a folder below `runs/`. The job writes `latest.json` last: it names the
run to read, with the checksums of its files. The job writes the list of a run's files,
`.manifest.json`, first: a job deletes only files that such a list names.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from reidray.errors import UserError
from reidray.storage import object_store
from reidray.storage.location import Location
from reidray.storage.locks.object_lock import LOCK_FILE, is_lock
from reidray.storage.paths import path_leaves_root
from reidray.storage.staging import find_foreign_file

log = logging.getLogger("reidray")

LATEST_FILE = "latest.json"
MANIFEST_FILE = ".manifest.json"
RUNS_FOLDER = "runs"
WORK_FOLDER = "work"
"""Folder of the working files of a job that runs, or was killed."""

WORK_NAME = re.compile(r"[0-9a-f]{32}/")
RUN_NAME = re.compile(r"[0-9]{8}T[0-9]{12}Z-[0-9a-f]{8}")


@dataclass(frozen=True)
class PublishedRun:
    """Hold the description of a run that is published at an address.

    Attributes:
        folder: the folder of its files, relative to the address.
        published: the time of its publication, in ISO 8601.
        files: `bytes` and `sha256` of each file, by path relative to the folder.
    """

    folder: str
    published: str
    files: dict[str, Any]

    def to_json(self) -> bytes:
        """Return the description as the bytes of a JSON object."""
        described = {"run": self.folder, "published": self.published, "files": self.files}
        return json.dumps(described, indent=2).encode() + b"\n"


def check_contents(
    location: Location, replaces: frozenset[str], summary: str | None = None
) -> None:
    """Check that an address holds nothing but runs of this job.

    Args:
        location: the address.
        replaces: the files that an earlier run may consist of.
        summary: the file that every run has; None where there is no such file.

    Raises:
        UserError: the address holds another object; the message names it.
    """
    for name in list_level(location, ""):
        if name == f"{RUNS_FOLDER}/":
            for run in list_level(location, name):
                if not run.endswith("/") or RUN_NAME.fullmatch(run[:-1]) is None:
                    raise _holds(location, name + run)
                published = _read_run(location, f"{name}{run}{MANIFEST_FILE}")
                if published and (
                    foreign := find_foreign_file(frozenset(published.files), replaces, summary)
                ):
                    raise _holds(location, f"{name}{run}{foreign}")
        elif name == f"{WORK_FOLDER}/":
            for work in list_level(location, name):
                if WORK_NAME.fullmatch(work) is None:
                    raise _holds(location, name + work)
        elif name == LATEST_FILE:
            latest = read_latest(location)
            if latest is None:
                raise _holds(location, name)
            foreign = find_foreign_file(frozenset(latest.files), replaces, summary)
            if foreign is not None:
                raise _holds(location, foreign)
        elif name != LOCK_FILE or not is_lock(location):
            raise _holds(location, name)


def publish_run(folder: Path, location: Location, check_lock: Callable[[], None]) -> None:
    """Upload the files of a folder as the newest run, and delete old runs.

    The run that was the newest before stays, as a process may still be reading it.

    Args:
        folder: the local folder of the files.
        location: the address.
        check_lock: raises an error if another process has taken over the lock of the address.
    """
    before = read_latest(location)
    now = datetime.now(UTC)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    run = PublishedRun(
        folder=f"{RUNS_FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:8]}",
        published=now.isoformat(timespec="seconds"),
        files={path.relative_to(folder).as_posix(): _describe(path) for path in files},
    )
    location.write_bytes(f"{run.folder}/{MANIFEST_FILE}", run.to_json())
    for name in run.files:
        location.upload_file(f"{run.folder}/{name}", folder / name)
    check_lock()
    if before is not None and not _read_json(location, f"{before.folder}/{MANIFEST_FILE}"):
        # An earlier version of this job listed the files in `latest.json` alone.
        location.write_bytes(f"{before.folder}/{MANIFEST_FILE}", before.to_json())
    location.write_bytes(LATEST_FILE, run.to_json())
    check_lock()
    _delete_runs(location, kept={run.folder} | ({before.folder} if before else set()))


def read_latest(location: Location) -> PublishedRun | None:
    """Return the run that `latest.json` names; None if the file is missing or names no run."""
    return _read_run(location, LATEST_FILE)


def list_level(location: Location, under: str) -> Iterator[str]:
    """Yield the names in one folder of an address, hidden ones too; a folder's ends in `/`.

    Args:
        location: the address.
        under: a folder below it that ends in `/`, or empty for the address itself.

    Raises:
        OSError: the object store failed.
    """
    prefix = f"{location.path.partition('/')[2]}/{under}".removeprefix("/")
    pages = object_store.iter_pages(location.uri, "list_objects_v2", Prefix=prefix, Delimiter="/")
    for page in pages:
        keys = [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        yield from (key.removeprefix(prefix) for key in keys if key != prefix)


def _delete_runs(location: Location, kept: set[str]) -> None:
    """Delete the files of the runs that are not kept, as their lists name them."""
    for name in list(list_level(location, f"{RUNS_FOLDER}/")):
        folder = f"{RUNS_FOLDER}/{name.rstrip('/')}"
        if folder in kept or RUN_NAME.fullmatch(name[:-1]) is None:
            continue
        manifest = f"{folder}/{MANIFEST_FILE}"
        run = _read_run(location, manifest)
        if run is None or run.folder != folder:
            log.info("left %s: no list of a run names its files", location.join(folder).uri)
            continue
        for file in run.files:
            location.delete_file(f"{folder}/{file}")
        location.delete_file(manifest)


def _read_run(location: Location, path: str) -> PublishedRun | None:
    found = _read_json(location, path)
    folder, files = found.get("run"), found.get("files")
    if not isinstance(folder, str) or not isinstance(files, dict):
        return None
    runs, _, name = folder.partition("/")
    if runs != RUNS_FOLDER or RUN_NAME.fullmatch(name) is None or any(map(path_leaves_root, files)):
        return None
    return PublishedRun(folder, str(found.get("published", "")), files)


def _read_json(location: Location, path: str) -> dict[str, Any]:
    """Return the JSON object at a path; an empty one if the file is missing or holds no object."""
    try:
        found = json.loads(location.read_bytes(path))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = file_digest(stream, "sha256")
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def _holds(location: Location, name: str) -> UserError:
    return UserError(
        f"{location.uri}: holds {name!r}, which is not of an earlier run and would be lost; "
        "choose an empty folder"
    )
