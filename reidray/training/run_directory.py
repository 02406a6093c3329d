"""Where a run lies: a folder on a disk, or one in an object store with a mirror here."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reidray.data.outputs import require_new
from reidray.data.storage import Location
from reidray.errors import UserError

LAST = "model.json"
"""Of the files that are uploaded together: without it the others are no model."""


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

    def check_new(self, otherwise: str) -> None:
        """Refuse a place that holds something, or cannot be written.

        Args:
            otherwise: what else than naming a new one can be done.

        Raises:
            UserError: says so.
        """
        if not self.location.is_remote:
            _check_new_folder(self.folder, otherwise)
            return
        uri = self.location.uri
        if self.location.exists() and self.location.list_files():
            raise UserError(f"output {uri} exists and is not empty: name a new one, or {otherwise}")
        try:
            self.location.write_bytes("config.yaml", b"")
            self.location.delete_file("config.yaml")
        except OSError as error:
            raise UserError(f"output {uri} cannot be written ({error})") from None

    def share(self) -> None:
        """Upload the files of the folder, where the run lies in an object store.

        Raises:
            OSError: the object store failed, for good.
        """
        if not self.location.is_remote:
            return
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == LAST, path)):
            name = path.relative_to(self.folder).as_posix()
            self.location.write_bytes(name, path.read_bytes())

    def clear(self) -> None:
        """Remove all that lies in it, and it.

        Raises:
            OSError: the disk or the object store failed.
        """
        if not self.location.is_remote:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.location.exists():
            for name in self.location.list_files():
                self.location.delete_file(name)


def _check_new_folder(run: Path, otherwise: str) -> None:
    require_new(run, otherwise)
    above = next(parent for parent in (run, *run.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{run.name}.", dir=above):
            pass
    except OSError as error:
        raise UserError(
            f"output {run} cannot be made in {above} ({error.strerror}): choose another place"
        ) from error
