"""Read, write and list files of a folder on a disk or in an object store."""

import os
import posixpath
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from reidray.errors import UserError
from reidray.storage import local_disk as disk
from reidray.storage import object_store
from reidray.storage.paths import (
    check_address,
    hidden_folder,
    is_hidden,
    is_utf8,
    key_leaves_root,
    path_leaves_root,
    split_address,
)

Answer = TypeVar("Answer")

FRESH_NS = 2_000_000_000
"""The age below which a file may change again and keep its times, as some disks count seconds."""


def settled_before() -> int:
    """Return the time, in nanoseconds since 1970, before which a file with a stamp was changed."""
    return time.time_ns() - FRESH_NS


@dataclass(frozen=True)
class Location:
    """Access a folder, or a file, by its local path or its address `s3://bucket/prefix`.

    A location can be pickled. Each process opens the object store at the first use and keeps the
    connection. `s3://bucket/prefix?endpoint_override=host:port&scheme=http`, or the variable
    `AWS_ENDPOINT_URL`, names an S3-compatible store. Credentials come from the environment only,
    as addresses end up in logs and model cards.

    Paths on a disk are normalised: `a//b` is `a/b`. Keys of an object store are not changed.

    Attributes:
        uri: the address; a local path is made absolute.
        follow_links: whether to read files and folders to which links out of the folder lead.

    Raises:
        UserError: the address is of an unknown kind, is not UTF-8, or holds credentials.
    """

    uri: str
    follow_links: bool = False

    def __post_init__(self) -> None:
        if not is_utf8(self.uri):
            raise UserError(f"the name {self.uri!r} is not UTF-8; rename the folder")
        scheme, separator, _ = self.uri.partition("://")
        if separator and scheme == "s3":
            check_address(self.uri)
            return
        if separator and scheme != "file":
            raise UserError(
                f"{scheme}:// addresses are not known; give a local path or s3://bucket/prefix"
            )
        if not self.uri.strip() or "\0" in self.uri:
            raise UserError(
                "the name of a folder is empty; give a local path or s3://bucket/prefix"
            )
        path = unquote(urlsplit(self.uri).path) if separator else self.uri
        object.__setattr__(self, "uri", os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 - text

    @property
    def is_remote(self) -> bool:
        """Return whether the folder lies in an object store."""
        return self.uri.startswith("s3://")

    @property
    def name(self) -> str:
        """Return the last part of the address."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> "Location":
        """Return the folder that holds this one."""
        return self._with_path(posixpath.dirname(self.path))

    def join(self, part: str) -> "Location":
        """Return the folder or file `part` within this folder.

        Raises:
            UserError: `part` leaves this folder.
        """
        return self._with_path(f"{self.path}/{self._inside(part.rstrip('/'))}")

    def exists(self) -> bool:
        """Return whether there is a folder or a file of this name."""
        return self.is_dir() or self.is_file()

    def is_dir(self) -> bool:
        """Return whether there is a folder of this name."""
        if not self.is_remote:
            with self.reading():
                return Path(self.uri).is_dir()
        return bool(self._remote_type() == pafs.FileType.Directory)

    def is_file(self) -> bool:
        """Return whether there is a file of this name."""
        if not self.is_remote:
            with self.reading():
                return Path(self.uri).is_file()
        return bool(self._remote_type() == pafs.FileType.File)

    def list_children(self) -> list[str]:
        """Return the sorted names in this folder without hidden ones; names of folders end in `/`.

        Raises:
            UserError: the folder is missing or cannot be read.
        """
        if not self.is_remote:
            with self.reading(), os.scandir(self.uri) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
            return sorted(entry.name + "/" * disk.is_dir(entry) for entry in shown)
        children = (self._child(info) for info in self._select("", recursive=False))
        return sorted(name for names in children for name in names if not name.startswith("."))

    def _child(self, info: pafs.FileInfo) -> list[str]:
        """Return the name of a child in an object store, or the files of one without a name."""
        prefix = f"{self.path}/"
        name = info.path[len(prefix) :]
        if name:
            return [name + "/" * (info.type == pafs.FileType.Directory)]
        inner = object_store.list_objects(self.uri, prefix, recursive=False)
        return [each.path.removeprefix(prefix) for each in inner if each.is_file]

    def list_files(
        self,
        recursive: bool = True,
        under: str = "",
        *,
        hidden: bool = False,
        as_files: Collection[str] = (),
    ) -> list[str]:
        """Return the files of this folder as relative POSIX paths, sorted.

        Files in hidden folders are left out. A link to a file is listed wherever it leads, and
        reading it may be refused. A link to a folder within this one is left out, as the files are
        listed where they lie. A link to a folder outside is an error, unless `follow_links` is on.

        Args:
            recursive: whether to list the folders within.
            under: the folder within this one to list; the paths stay relative to this folder.
            hidden: whether to list hidden files, and hidden folders by their names with a final
                `/`.
            as_files: folders on a disk with one of these suffixes, in small letters, are listed
                as files are.

        Raises:
            OutsideLinkError: `under`, or a folder in it, is a link that leaves this folder.
            UserError: the folder is missing or cannot be read.
        """
        inside = self._inside(under) if under else ""
        if not self.is_remote:
            with self.reading():
                found = disk.walk(
                    self.uri,
                    inside,
                    recursive,
                    hidden=hidden,
                    follow_links=self.follow_links,
                    as_files=as_files,
                )
                return sorted(found)
        prefix = self.path + "/"
        paths = (
            info.path.removeprefix(prefix)
            for info in self._select(inside, recursive)
            if info.type == pafs.FileType.File
        )
        if not hidden:
            return sorted(path for path in paths if not is_hidden(path))
        return sorted({hidden_folder(path) or path for path in paths})

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Return the contents of a file of this folder. Never wait for a writer, as of a pipe.

        Args:
            path: the path of the file relative to this folder.
            limit: the number of bytes that the file may hold; None for any number.

        Raises:
            OutsideLinkError: the path leaves the folder through a link.
            UserError: the path leaves the folder by its text.
            OSError: the file cannot be read, is not a regular file, or holds more than the limit.
        """
        inside = self._inside(path)
        if self.is_remote:
            return object_store.read_object(self.uri, f"{self.path}/{inside}", limit)
        return disk.read(self.uri, inside, limit, self.follow_links)

    def read_head(self, path: str, count: int) -> bytes:
        """Return the first `count` bytes of the file at a path relative to this folder.

        Raises:
            OutsideLinkError: the path leaves the folder through a link.
            UserError: the path leaves the folder by its text.
            OSError: the file cannot be read, or is not a regular file.
        """
        inside = self._inside(path)
        if self.is_remote:
            return self.read_with(path, lambda file: bytes(file.read(count)))
        return disk.read_head(self.uri, inside, count, self.follow_links)

    def read_with(self, path: str, reader: Callable[[pa.NativeFile], Answer]) -> Answer:
        """Open a file of this folder, call a reader with it, and return its result.

        Args:
            path: the path of the file relative to this folder.
            reader: a function of the open file, which may read a part of it. It may be called
                again after a transient error of the object store.

        Raises:
            UserError: the path leaves the folder.
            OSError: the file cannot be read.
        """
        inside = self._inside(path)
        if self.is_remote:
            return object_store.read_object_with(self.uri, f"{self.path}/{inside}", reader)
        with pa.OSFile(posixpath.join(self.uri, inside)) as file:
            return reader(file)

    def write_bytes(self, path: str, data: bytes | memoryview) -> None:
        """Write a file in one step, so that no reader sees a half-written one.

        An earlier file is replaced, and the folders above the file are made.

        Raises:
            UserError: the path leaves the folder.
            OSError: the disk or the object store failed.
        """
        inside = self._inside(path)
        if self.is_remote:
            object_store.write_object(self.uri, f"{self.path}/{inside}", data)
            return
        file = Path(self.uri, inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        disk.write(file, data)

    def upload_file(self, path: str, source: Path) -> None:
        """Write an object of this bucket in one step from a local file, a piece at a time.

        Raises:
            UserError: the path leaves the folder.
            OSError: the object store failed.
        """
        inside = self._inside(path)
        object_store.upload_object(self.uri, f"{self.path}/{inside}", source)

    def delete_file(self, path: str) -> None:
        """Delete a file, if it exists.

        Raises:
            UserError: the path leaves the folder.
            OSError: the disk or the object store failed.
        """
        inside = self._inside(path)
        if self.is_remote:
            object_store.delete_object(self.join(path).uri)
            return
        Path(self.uri, inside).unlink(missing_ok=True)

    def delete_old_versions(self, path: str) -> None:
        """Delete the old versions of a file in a bucket with versioning.

        Raises:
            UserError: the path leaves the folder.
            OSError: the object store failed, or refuses to delete versions.
        """
        if self.is_remote:
            object_store.delete_old_versions(self.join(path).uri)

    def read_stamps(self, paths: Sequence[str]) -> list[str]:
        """Return a text for each file that changes whenever its contents do.

        The text holds the size and the times of the file. It is empty for a file that was changed
        within the last `FRESH_NS`, and for one that does not exist.

        Args:
            paths: the paths of the files relative to this folder.

        Raises:
            UserError: the folder cannot be read.
        """
        settled = settled_before()
        if self.is_remote:
            with self.reading():
                infos = object_store.list_objects(self.uri, self.path, recursive=True)
            prefix = self.path + "/"
            found = {
                info.path.removeprefix(prefix): object_store.stamp(
                    info.size, info.mtime_ns, settled
                )
                for info in infos
                if info.mtime_ns is not None
            }
            return [found.get(path, "") for path in paths]
        root = posixpath.join(self.uri, "")
        return [disk.stamp(root + path, settled) for path in paths]

    @property
    def path(self) -> str:
        """Return the path for a file system: `bucket/prefix`, or the local path."""
        if not self.is_remote:
            return self.uri
        return split_address(self.uri)[0].rstrip("/")

    def _with_path(self, path: str) -> "Location":
        if not self.is_remote:
            return Location(path, self.follow_links)
        options = split_address(self.uri)[1]
        return Location(f"s3://{path}{f'?{options}' if options else ''}", self.follow_links)

    def _inside(self, path: str) -> str:
        leaves = key_leaves_root(path) if self.is_remote else path_leaves_root(path)
        if leaves:
            raise UserError(f"path {path!r} leaves {self.uri}; expected one within the folder")
        return path if self.is_remote else posixpath.normpath(path)

    def _remote_type(self) -> pafs.FileType:
        with self.reading():
            return object_store.describe_object(self.uri, self.path).type

    def _select(self, under: str, recursive: bool) -> list[pafs.FileInfo]:
        with self.reading():
            path = f"{self.path}/{under}" if under else self.path
            return object_store.list_objects(self.uri, path, recursive=recursive)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn the errors of reading a folder into a `UserError` of one line.

        Raises:
            UserError: within the context, the disk or the object store failed.
        """
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.uri}: no such folder; check the name") from None
        except NotADirectoryError:
            raise UserError(f"{self.uri}: is a file, expected a folder") from None
        except OSError as error:
            advice = "; check the address and the AWS_ variables" if self.is_remote else ""
            reason = object_store.redact_secrets(str(error)).replace("\n", " ")
            raise UserError(f"{self.uri}: cannot be read ({reason}){advice}") from None
