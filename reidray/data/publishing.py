"""Where a job's output goes: a folder that changes in one step, on a disk or in an object store.

An object store has no renames. There each run's files lie under `runs/`, and `latest.json`, which
is written last, names the run to be read with the checksums of its files.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from reidray.data.file_lock import only_writer
from reidray.data.outputs import staged_directory
from reidray.data.storage import Location
from reidray.data.store_lock import writing_alone

LATEST_FILE = "latest.json"
RUNS_FOLDER = "runs"
RUNS_KEPT = 2
"""The newest run, and the one before it, which somebody may still be reading."""


@contextmanager
def only_writer_of(location: Location) -> Iterator[None]:
    """Keep everybody else from writing a folder, on a disk or in an object store.

    Raises:
        UserError: somebody else is writing it, or it cannot be written.
    """
    if location.is_remote:
        with writing_alone(location):
            yield
    else:
        with only_writer(Path(location.uri)):
            yield


@contextmanager
def published_folder(uri: str, replaces: frozenset[str] = frozenset()) -> Iterator[Path]:
    """A folder to write in, whose files all appear at an address when the block succeeds.

    A reader of the address sees the files of the earlier output or those of this one, never some of
    both. When the block fails, the earlier output stays.

    Args:
        uri: a local folder, which must be new, empty or an earlier output; or `s3://bucket/prefix`.
        replaces: the names an earlier output on a disk may consist of.

    Raises:
        UserError: the place cannot be written, holds something else, or another run is writing it.
    """
    location = Location(uri)
    if not location.is_remote:
        with staged_directory(Path(location.uri), replaces) as staging:
            yield staging
        return
    with writing_alone(location) as lock, TemporaryDirectory() as folder:
        yield Path(folder)
        lock.check()
        _publish(Path(folder), location)


def _publish(folder: Path, location: Location) -> None:
    """Upload a folder's files, then say that they are the newest, then remove old runs."""
    now = datetime.now(UTC)
    run = f"{RUNS_FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:8]}"
    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = file.relative_to(folder).as_posix(), file.read_bytes()
        location.write_bytes(f"{run}/{name}", data)
        files[name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    latest = {"run": run, "published": now.isoformat(timespec="seconds"), "files": files}
    location.write_bytes(LATEST_FILE, json.dumps(latest, indent=2).encode() + b"\n")
    written = location.list_files(under=RUNS_FOLDER)
    runs = sorted({path.split("/")[1] for path in written})
    for old in runs[:-RUNS_KEPT]:
        for path in written:
            if path.split("/")[1] == old:
                location.delete_file(path)
