"""Folders on a disk or in an object store, and what may be read of them."""

import functools
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from reidray.data import object_store
from reidray.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def path_leaves_root(path: str) -> bool:
    """Whether a relative path, by its text alone, is absolute or climbs out of its root."""
    normal = posixpath.normpath(path)
    return (
        not path
        or "\0" in path
        or normal in (".", "..")
        or normal.startswith(("/", "../"))
        or PureWindowsPath(path).is_absolute()
    )


@dataclass(frozen=True)
class Location:
    """A folder, or a file, given as a local path or `s3://bucket/prefix`.

    It can be pickled and costs nothing to make; the object store is opened at the first use in
    each process and kept. `s3://bucket/prefix?endpoint_override=host:port&scheme=http` or the
    variable `AWS_ENDPOINT_URL` names an S3-compatible store. Credentials come from the
    environment and never from the address, for addresses end up in logs and model cards.

    Attributes:
        uri: the address; a local path is made absolute.

    Raises:
        UserError: the address is of another kind, or holds credentials.
    """

    uri: str

    def __post_init__(self) -> None:
        scheme, separator, _ = self.uri.partition("://")
        if separator and scheme == "s3":
            object_store.check_address(self.uri)
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
        """Whether the folder is in an object store, where each read waits for the network."""
        return self.uri.startswith("s3://")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return posixpath.basename(self._path)

    @property
    def parent(self) -> "Location":
        """The folder that holds this one."""
        return self._with_path(posixpath.dirname(self._path))

    def join(self, part: str) -> "Location":
        """The folder `part` within this one.

        Raises:
            UserError: `part` leaves this folder.
        """
        return self._with_path(posixpath.join(self._path, self._inside(part)))

    def exists(self) -> bool:
        """Whether there is a folder or a file of this name."""
        return self.is_folder() or self.is_file()

    def is_folder(self) -> bool:
        """Whether there is a folder of this name."""
        if not self.is_remote:
            return Path(self.uri).is_dir()
        return bool(self._remote_type() == pafs.FileType.Directory)

    def is_file(self) -> bool:
        """Whether there is a file of this name."""
        if not self.is_remote:
            return Path(self.uri).is_file()
        return bool(self._remote_type() == pafs.FileType.File)

    def list_children(self) -> list[str]:
        """The names in this folder, sorted; a folder's ends in `/`. Hidden ones are left out.

        Raises:
            UserError: the folder is missing or cannot be read.
        """
        if not self.is_remote:
            with self._reading(), os.scandir(self.uri) as entries:
                names = [e.name + "/" * e.is_dir() for e in entries if not e.name.startswith(".")]
            return sorted(names)
        return sorted(
            info.base_name + "/" * (info.type == pafs.FileType.Directory)
            for info in self._select("", recursive=False)
            if not info.base_name.startswith(".")
        )

    def list_files(self, recursive: bool = True, under: str = "") -> list[str]:
        """The files of this folder as relative POSIX paths, sorted.

        Hidden files and folders are left out. A link to a folder is not followed.

        Args:
            recursive: go into the folders within.
            under: list this folder within only; the paths are still relative to the root.

        Raises:
            UserError: the folder is missing or cannot be read, or a link leaves it.
        """
        inside = self._inside(under) if under else ""
        if not self.is_remote:
            with self._reading():
                return sorted(_walk(self.uri, inside, recursive))
        prefix = self._path + "/"
        paths = (
            info.path.removeprefix(prefix)
            for info in self._select(inside, recursive)
            if info.type == pafs.FileType.File
        )
        return sorted(path for path in paths if not _is_hidden(path))

    def read_bytes(self, path: str) -> bytes:
        """The contents of the file at a path relative to this folder.

        Raises:
            UserError: the path, or the link it names, leaves the folder.
            OSError: the file cannot be read.
        """
        inside = self._inside(path)
        if self.is_remote:
            try:
                with object_store.open_store(self.uri).open_input_stream(
                    posixpath.join(self._path, inside)
                ) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                raise FileNotFoundError(f"no such file: {path}") from None
            except OSError as error:
                raise OSError(object_store.without_secrets(f"{path}: {error}")) from None
        full = posixpath.join(self.uri, inside)
        _check_link(self.uri, full)
        with open(full, "rb") as file:  # noqa: PTH123 - once per image, as in _check_link
            return file.read()

    @property
    def _path(self) -> str:
        """The path as the file system knows it: `bucket/prefix`, or the local path."""
        if not self.is_remote:
            return self.uri
        return self.uri.removeprefix("s3://").partition("?")[0].rstrip("/")

    def _with_path(self, path: str) -> "Location":
        if not self.is_remote:
            return Location(path)
        _, question, query = self.uri.partition("?")
        return Location(f"s3://{path}{question}{query}")

    def _inside(self, path: str) -> str:
        if path_leaves_root(path):
            raise UserError(f"path {path!r} leaves {self.uri}; expected one within the folder")
        return posixpath.normpath(path)

    def _remote_type(self) -> pafs.FileType:
        with self._reading():
            return object_store.open_store(self.uri).get_file_info(self._path).type

    def _select(self, under: str, recursive: bool) -> list[pafs.FileInfo]:
        with self._reading():
            path = posixpath.join(self._path, under) if under else self._path
            return list(
                object_store.open_store(self.uri).get_file_info(
                    pafs.FileSelector(path, recursive=recursive)
                )
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What goes wrong in finding a folder is the user's to mend, said in one line."""
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.uri}: no such folder; check the name") from None
        except NotADirectoryError:
            raise UserError(f"{self.uri}: is a file, expected a folder") from None
        except OSError as error:
            advice = "; check the address and the AWS_ variables" if self.is_remote else ""
            reason = object_store.without_secrets(str(error)).replace("\n", " ")
            raise UserError(f"{self.uri}: cannot be read ({reason}){advice}") from None


def list_images(location: Location, under: str = "") -> list[str]:
    """The images of a folder, and of the folders in it, as sorted paths relative to `location`.

    Args:
        location: the root of the paths.
        under: list the images of this folder within the root only.

    Raises:
        UserError: the folder is missing, is a file, or holds no images.
    """
    images = [path for path in location.list_files(under=under) if _is_image(path)]
    if not images:
        folder = location.join(under).uri if under else location.uri
        raise UserError(f"{folder}: holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def holds_images(location: Location) -> bool:
    """Whether there are images in the folder itself, not in the folders within."""
    return any(_is_image(name) for name in location.list_children())


def _walk(root: str, under: str, recursive: bool) -> Iterator[str]:
    folders = [under]
    while folders:
        folder = folders.pop()
        with os.scandir(posixpath.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    _check_link(root, entry.path)
                path = posixpath.join(folder, entry.name)
                if not entry.is_dir():
                    yield path
                elif recursive and not entry.is_symlink():
                    folders.append(path)


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _check_link(root: str, path: str) -> None:
    """Refuse a file that lies elsewhere than its path says: behind a link out of the root."""
    folder, name = posixpath.split(path)
    linked = os.path.islink(path)  # noqa: PTH114 - once per image: a Path costs more than the call
    target = os.path.realpath(path) if linked else posixpath.join(_real_folder(folder), name)
    real_root = _real_folder(root)
    if os.path.commonpath((real_root, target)) != real_root:
        raise UserError(f"{path}: is a link that leaves {root}; put the files themselves there")


def _is_image(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
