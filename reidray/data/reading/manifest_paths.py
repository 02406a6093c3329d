"""Find the root of the paths of a manifest file, and make the paths relative to it."""

import functools
import os
import posixpath
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reidray.data.images.image_formats import IMAGE_SUFFIXES
from reidray.data.manifest_builder import replace_rows
from reidray.data.stored_rows import store_texts
from reidray.errors import UserError
from reidray.storage.location import Location
from reidray.storage.paths import key_leaves_root, path_leaves_root

ROOT_KEY = b"root"
"""Key of the metadata of a Parquet file that names the root of its paths."""

_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_ADDRESS = re.compile(r"(?!s3://|file://)[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)
_SPECIAL = r"^/|^[A-Za-z][A-Za-z0-9+.-]*://|(^|/)\.\.(/|$)"
# Expression of Arrow for paths that are absolute, an address, or may climb out of their folder.
_ODD_PARTS = r"//|(^|/)\.{1,2}(/|$)|/$"
# Expression of Arrow for paths that are not in their plain form.
_MANY_FOLDERS = 50


def find_root(folder: Location, metadata: dict[bytes, bytes] | None, root: str | None) -> Location:
    """Return the root of the relative paths of a manifest.

    Args:
        folder: the folder of the manifest.
        metadata: the metadata of a Parquet file; its `root` may be relative to the folder.
        root: the root that the user names, which takes precedence; None where there is none.

    Raises:
        UserError: the root does not exist.
    """
    named = (metadata or {}).get(ROOT_KEY)
    if root is not None:
        found = Location(root, folder.follow_links)
    elif named is None:
        return folder
    else:
        text = named.decode(errors="replace")
        if not folder.is_remote and not _ABSOLUTE.match(text):
            text = posixpath.join(folder.uri, text)
        found = Location(text, folder.follow_links)
    if not found.is_dir():
        source = "`root`" if root is not None else "the metadata of the manifest"
        raise UserError(f"root {found.uri}: no such folder, named by {source}; check the name")
    return found


def relative_paths(
    column: pa.ChunkedArray, folder: Location, root: Location, file: str, name: str
) -> pa.ChunkedArray:
    """Return the paths of a column, with absolute paths made relative to the root.

    Args:
        column: the paths as large strings.
        folder: the folder of the manifest, to which a path on a disk such as `../crops/a.jpg` is
            relative.
        root: the root of the other relative paths.
        file: the name of the manifest, for the message of an error.
        name: the name of the column, for the message of an error.

    Raises:
        UserError: a path lies outside the root, or is an address of an unknown kind.
    """
    prefix = f"s3://{root.path}/" if root.is_remote else f"{root.uri.rstrip('/')}/"
    is_inside = _is_inside(column, prefix, is_remote=root.is_remote)
    is_special = pc.and_not(pc.match_substring_regex(column, _SPECIAL), is_inside)
    if pc.any(is_inside).as_py():
        column = _strip_prefix(column, is_inside, prefix)
    rows = np.flatnonzero(pc.fill_null(is_special, False).to_numpy())
    paths: list[str] = column.filter(is_special).to_pylist()
    for row, path in zip(rows.tolist(), paths, strict=True):
        if _ADDRESS.match(path):
            raise UserError(
                f"{file}, row {row + 1}: {name} {path!r} is an address of an unknown kind: bring "
                "the images to a disk or to s3://"
            )
    absolute = {
        place: path if _ABSOLUTE.match(path) else posixpath.join(folder.uri, path)
        for place, path in enumerate(paths)
        if _ABSOLUTE.match(path) or (not folder.is_remote and _climbs(path))
    }
    new = list(paths)
    for place, path in absolute.items():
        inside = _relative(path, root)
        if inside is None:
            raise UserError(
                f"{file}, row {rows[place] + 1}: {name} {paths[place]!r} lies outside {root.uri}: "
                "name the folder that holds the images, such as "
                f"`root={_common_folder(list(absolute.values()))}`"
            )
        new[place] = inside
    return replace_rows(column, rows, new)


def _strip_prefix(
    paths: pa.ChunkedArray, is_inside: pa.ChunkedArray, prefix: str
) -> pa.ChunkedArray:
    """Return paths without the prefix that those inside begin with."""

    def strip(part: slice) -> pa.ChunkedArray:
        stripped = pc.replace_substring(paths[part], prefix, "", max_replacements=1)
        return pc.if_else(is_inside[part], stripped, paths[part])

    return store_texts(strip, len(paths))


def _is_inside(paths: pa.ChunkedArray, prefix: str, *, is_remote: bool) -> pa.ChunkedArray:
    """Return which paths begin with the root and its slash, and are in plain form on a disk."""
    is_inside = pc.and_(pc.starts_with(paths, prefix), pc.not_equal(paths, prefix))
    if is_remote:
        return is_inside
    return pc.and_not(is_inside, pc.match_substring_regex(paths, _ODD_PARTS))


def list_beside(root: Location, paths: Sequence[str | None]) -> list[str]:
    """Return the files of the folders in which some relative paths lie, and of few other folders.

    Paths that leave the root are ignored; `build_manifest` refuses them.
    """
    leaves = key_leaves_root if root.is_remote else path_leaves_root
    plain = [
        path if root.is_remote else posixpath.normpath(path)
        for path in paths
        if path and not leaves(path)
    ]
    folders = {posixpath.dirname(path) for path in plain}
    if not folders:
        return []
    common = "/".join(_common_parts([folder.split("/") for folder in folders]))
    if common.startswith("/") or (common and not root.join(common).is_dir()):
        common = ""
    depth = len(common.split("/")) if common else 0
    tops = {parts[depth] for parts in (f.split("/") for f in folders) if len(parts) > depth} - {""}
    if len(tops) > _MANY_FOLDERS or any("" in f.split("/") for f in folders if f):
        return root.list_files(under=common, as_files=IMAGE_SUFFIXES)
    files = root.list_files(recursive=False, under=common, as_files=IMAGE_SUFFIXES)
    for top in sorted(tops):
        under = f"{common}/{top}" if common else top
        if root.join(under).is_dir():
            files += root.list_files(under=under, as_files=IMAGE_SUFFIXES)
    return files


def find_listed(root: Location, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[str]]:
    """Find the files of a manifest that exist.

    Args:
        root: the root of the paths.
        column: the paths of the manifest as large strings.

    Returns:
        The paths, each as its file is named, and the files that exist. In an object store a path
        is the key of an object, or else its plain form: `a.jpg` for `./a.jpg`.
    """
    paths: list[str | None] = column.to_pylist()
    files = list_beside(root, paths)
    there = set(files)
    if root.is_remote:
        plain = [path if not path or path in there else posixpath.normpath(path) for path in paths]
        found = [new if new in there else old for new, old in zip(plain, paths, strict=True)]
        return pa.chunked_array([pa.array(found, pa.large_string())]), files
    missing = {path for path in paths if path and not path_leaves_root(path)} - there
    # A folder to which a link within the root leads is listed under its own name only.
    files += [path for path in map(posixpath.normpath, missing) if root.join(path).is_file()]
    return column, files


def _climbs(path: str) -> bool:
    return posixpath.normpath(path).startswith("../")


def _relative(path: str, root: Location) -> str | None:
    """Return an absolute path relative to the root; None if it lies elsewhere."""
    if root.is_remote:
        prefix = f"s3://{root.path}/"
        return path[len(prefix) :] or None if path.startswith(prefix) else None
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    if not path.startswith("/"):
        return None
    normal = posixpath.normpath(path)
    folder, name = posixpath.split(normal)
    for base, place in ((root.uri, folder), (_real(root.uri), _real(folder))):
        if place == base or place.startswith(f"{base.rstrip('/')}/"):
            return posixpath.join(place[len(base) :].strip("/"), name)
    return None


def _common_folder(paths: Sequence[str]) -> str:
    """Return the deepest folder that holds all of these absolute paths."""
    plain = [path if "://" in path else posixpath.normpath(path) for path in paths]
    parts = _common_parts([posixpath.dirname(path).split("/") for path in plain])
    return "/".join(parts) or "/"


def _common_parts(paths: Sequence[Sequence[str]]) -> list[str]:
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common


@functools.lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
