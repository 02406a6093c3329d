"""Where a run lies: a folder on a disk, or one in an object store with a mirror here."""

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
from typing import Self

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

RUN_FILES = (
    "config.yaml",
    "metrics.jsonl",
    "report.html",
    "person_ids.json",
    "camera_ids.json",
    "model/README.md",
    "model/model.json",
    "model/model.safetensors",
    "tensorboard/events.out.tfevents.*",
)
"""Patterns of the files of a run without checkpoints, as `fnmatch` reads them."""

LAST = "model.json"
"""Of the files that are uploaded together: without it the others are no model."""

_locks: dict[str, ObjectLock] = {}
"""The locks that this process holds, by the address of their folder."""


@dataclass(frozen=True)
class RunDirectory:
    """A run directory.

    Attributes:
        location: where it lies.
        folder: where its files are written, all but the checkpoints. On a disk that is the place
            itself, and else a folder of this process, whose files `share` uploads.
    """

    location: Location
    folder: Path

    @classmethod
    def at(cls, uri: str) -> Self:
        """The run directory of an address, which need not be there."""
        location = Location(uri)
        if not location.is_remote:
            return cls(location, Path(location.uri))
        mirror = tempfile.mkdtemp(prefix="reidray-run-")
        atexit.register(shutil.rmtree, mirror, ignore_errors=True)
        return cls(location, Path(mirror))

    def uri(self, name: str) -> str:
        """The address of a file or folder in it."""
        return self.location.join(name).uri

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep every other job from writing it, until the block ends.

        A job that is killed lets go of it: at once on a disk, and in an object store within half a
        minute, for which the next one waits.

        Raises:
            UserError: another job is writing it, or it cannot be written.
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
        """Refuse a place that holds something, or cannot be written.

        Args:
            otherwise: what else than naming a new one can be done.

        Raises:
            UserError: says so.
        """
        check_outside_outputs(self.location)
        if not self.location.is_remote:
            _check_new_folder(self.folder, otherwise)
            return
        uri = self.location.uri
        if self.location.exists() and set(self.location.list_files()) - {LOCK_FILE}:
            raise UserError(f"output {uri} exists and is not empty: name a new one, or {otherwise}")
        try:
            self.location.write_bytes("config.yaml", b"")
            self.location.delete_file("config.yaml")
        except OSError as error:
            reason = redact_secrets(" ".join(str(error).split()))
            raise UserError(
                f"output {uri} cannot be written ({reason}); check the address and the "
                "AWS_ variables"
            ) from None

    def share(self) -> None:
        """Upload the files of the folder, where the run lies in an object store.

        Raises:
            UserError: another job took over the run, as this one had not been heard of.
            OSError: the object store failed, for good.
        """
        if not self.location.is_remote:
            return
        if lock := _locks.get(self.location.uri):
            lock.check()
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == LAST, path)):
            name = path.relative_to(self.folder).as_posix()
            self.location.write_bytes(name, path.read_bytes())

    def clear(self, files: Sequence[str] = RUN_FILES) -> None:
        """Remove the files that a run wrote, and the folders that are then empty.

        What else lies in it, which somebody else put there, stays.

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
def claim_run(config: TrainingConfig, resume: str | None) -> Iterator[RunDirectory]:
    """Choose the run directory of a training, and keep every other job from writing it.

    Nothing is made yet but the lock.

    Args:
        config: names a new one; by default it lies under runs/.
        resume: a run directory to go on with, instead of a new one.

    Raises:
        UserError: another job is writing it, it holds something, cannot be made, would mix with the
            images, or has no whole checkpoint to go on from.
    """
    run = RunDirectory.at(resume) if resume is not None else _new_run(config)
    with run.claimed():
        if resume is not None:
            repair_checkpoint_list(run.location)
        else:
            run.check_new(f"go on with a run by --resume {run.location.uri}")
        yield run


def new_run(config: TrainingConfig) -> RunDirectory:
    """Return the run directory of a new training, which is not made yet.

    Raises:
        UserError: it holds something, cannot be made, or would mix with the images.
    """
    run = _new_run(config)
    run.check_new(f"go on with a run by --resume {run.location.uri}")
    return run


def _new_run(config: TrainingConfig) -> RunDirectory:
    if config.output is not None:
        check_disjoint(("--output", config.output), {"--data": config.data})
    # Two jobs may begin within a second.
    return RunDirectory.at(config.output or time.strftime(f"runs/%Y%m%d-%H%M%S-{os.getpid()}"))


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check_new_folder(run: Path, otherwise: str) -> None:
    check_writable_folder(run, locked=False)
    check_new_output(run, otherwise)
