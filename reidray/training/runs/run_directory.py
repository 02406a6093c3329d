"""Hold a run directory: a folder on disk, or one in an object store with a local mirror."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from reidray.config import TrainingConfig
from reidray.errors import UserError
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.location import Location
from reidray.storage.locks.object_lock import LOCK_FILE, ObjectLock, lock_location
from reidray.storage.object_store import redact_secrets
from reidray.storage.output_checks import check_disjoint, check_writable_folder
from reidray.storage.publishing import check_outside_outputs, exclusive_writer
from reidray.storage.staging import check_new_output
from reidray.training.runs.checkpoint_files import repair_checkpoint_list

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "report.html"
RUN_FILES = (
    CONFIG_FILE,
    METRICS_FILE,
    REPORT_FILE,
    "person_ids.json",
    "camera_ids.json",
    "weights.json",
    "model/README.md",
    "model/model.json",
    "model/model.safetensors",
    "tensorboard/events.out.tfevents.*",
)
"""Patterns, as `fnmatch` reads them, of the files of a run without its checkpoints."""

ADVICE_TO_RESUME = "make room or mend the store, and go on with `resume`"
"""Advice where a run directory cannot be written."""

LAST_UPLOAD = "model.json"
"""File that is uploaded last: without it the other files are no model."""

_locks: dict[str, ObjectLock] = {}
"""Locks that this process holds, by the URI of their run directory."""


@dataclass(frozen=True)
class TrainingRun:
    """Hold the outputs of a training.

    Attributes:
        directory: run directory, a local path or an `s3://` URI.
        model: model directory within it.
        report: HTML report within it.
        metrics: epochs and steps, the metrics of the best epoch, such as `mean_ap` and `rank1`,
            and a summary of the data set.
    """

    directory: str
    model: str
    report: str
    metrics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return all values in one dictionary, as the JSON line of a job shows them."""
        return {"run": self.directory, "model": self.model, "report": self.report, **self.metrics}


@dataclass(frozen=True)
class RunDirectory:
    """Hold the location of a run directory.

    Attributes:
        location: local path or `s3://` URI.
        folder: local folder for all files but the checkpoints. For a local run it is the run
            directory itself; for a run in an object store it is a temporary folder, whose files
            `upload` uploads.
    """

    location: Location
    folder: Path

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Return the run directory at a local path or URI, which need not exist."""
        location = Location(uri)
        if not location.is_remote:
            return cls(location, Path(location.uri))
        mirror = tempfile.mkdtemp(prefix="reidray-run-")
        atexit.register(shutil.rmtree, mirror, ignore_errors=True)
        return cls(location, Path(mirror))

    def uri(self, name: str) -> str:
        """Return the URI of a file or folder in the run directory."""
        return self.location.join(name).uri

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other job from writing the run directory until the block ends.

        A killed job releases it: at once on a disk, and within half a minute in an object store,
        for which the next job waits.

        Raises:
            UserError: another job is writing the run directory, or it cannot be written.
        """
        if not self.location.is_remote:
            with exclusive_writer(Location(os.path.realpath(self.location.uri))):
                yield
            return
        with ExitStack() as stack:
            with Activity(f"taking the lock of {self.location.uri}", delay=SHOW_AFTER_SECONDS):
                _locks[self.location.uri] = stack.enter_context(lock_location(self.location))
            stack.callback(_locks.pop, self.location.uri)
            yield

    def check_new(self, otherwise: str) -> None:
        """Check that the run directory is empty or absent, and can be written.

        Args:
            otherwise: advice of the message, besides naming a new run directory.

        Raises:
            UserError: the run directory holds files or cannot be written.
        """
        check_outside_outputs(self.location)
        if not self.location.is_remote:
            _check_new_folder(self.folder, otherwise)
            return
        uri = self.location.uri
        if self.location.exists() and set(self.location.list_files()) - {LOCK_FILE}:
            raise UserError(f"output {uri} exists and is not empty: name a new one, or {otherwise}")
        try:
            self.location.write_bytes(CONFIG_FILE, b"")
            self.location.delete_file(CONFIG_FILE)
        except OSError as error:
            reason = redact_secrets(" ".join(str(error).split()))
            raise UserError(
                f"output {uri} cannot be written ({reason}); check the address and the "
                "AWS_ variables"
            ) from None

    def upload(self) -> None:
        """Upload the files of the folder where the run is in an object store.

        Raises:
            UserError: another job took over the run, because this one did not renew its lock.
            OSError: the object store failed permanently.
        """
        if not self.location.is_remote:
            return
        if lock := _locks.get(self.location.uri):
            lock.check_held()
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == LAST_UPLOAD, path)):
            name = path.relative_to(self.folder).as_posix()
            self.location.write_bytes(name, path.read_bytes())

    def clear(self, files: Sequence[str] = RUN_FILES) -> None:
        """Remove the files that a run wrote, and the folders that are empty afterwards.

        Files that the run did not write stay.

        Args:
            files: patterns of the paths to remove, as `fnmatch` reads them.

        Raises:
            OSError: the disk or the object store failed.
        """
        if self.location.is_remote:
            found = self.location.list_files() if self.location.exists() else []
            for name in found:
                if any(fnmatchcase(name, pattern) for pattern in files):
                    self.location.delete_file(name)
            return
        for path in sorted(self.folder.rglob("*"), reverse=True):
            name = path.relative_to(self.folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                if any(
                    fnmatchcase(name, str(Path(pattern).parent))
                    or fnmatchcase(f"{name}/x", pattern)
                    for pattern in files
                ):
                    _remove_if_empty(path)
            elif any(fnmatchcase(name, pattern) for pattern in files):
                path.unlink()
        _remove_if_empty(self.folder)


@contextmanager
def lock_run(config: TrainingConfig, resume: str | None) -> Iterator[RunDirectory]:
    """Yield the run directory of a training, and keep every other job from writing it.

    The function creates nothing but the lock.

    Args:
        config: configuration, whose `output` names a new run directory; by default a new one
            under `runs/`.
        resume: run directory to resume instead of a new one.

    Raises:
        UserError: another job is writing the run directory, a new one is not empty, cannot be
            written or overlaps the images, or one to resume has no whole checkpoint.
    """
    run = RunDirectory.from_uri(resume) if resume is not None else _new_run(config)
    with run.locked():
        if resume is not None:
            repair_checkpoint_list(run.location)
        else:
            run.check_new(f"go on with a run by `resume={run.location.uri}`")
        yield run


def new_run(config: TrainingConfig) -> RunDirectory:
    """Return the run directory of a new training, which is not created yet.

    Raises:
        UserError: the directory is not empty, cannot be written, or overlaps with the images.
    """
    run = _new_run(config)
    run.check_new(f"go on with a run by `resume={run.location.uri}`")
    return run


def _new_run(config: TrainingConfig) -> RunDirectory:
    if config.output is not None:
        check_disjoint("output", config.output, {"data": config.data})
    # Two jobs may begin within a second.
    return RunDirectory.from_uri(
        config.output or time.strftime(f"runs/%Y%m%d-%H%M%S-{os.getpid()}")
    )


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check_new_folder(run: Path, otherwise: str) -> None:
    check_writable_folder(run, locked=False)
    check_new_output(run, otherwise)
