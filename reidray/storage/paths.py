"""Classify paths and keys by their text: hidden ones, and those that leave their root."""

import posixpath
from pathlib import PureWindowsPath


def path_leaves_root(path: str) -> bool:
    """Return whether a path, by its text alone, is absolute, empty or climbs out of its root."""
    normal = posixpath.normpath(path)
    return (
        not path
        or "\0" in path
        or normal in (".", "..")
        or normal.startswith(("/", "../"))
        or PureWindowsPath(path).is_absolute()
    )


def key_leaves_root(key: str) -> bool:
    """Return whether the key of an object, relative to a prefix, climbs out of it by `..` parts.

    An object store takes a key as it is, but a proxy in front of it may resolve the parts.
    """
    depth = 0
    for part in key.split("/"):
        depth += 0 if part in ("", ".") else -1 if part == ".." else 1
        if depth < 0:
            return True
    return not key.strip("/") or "\0" in key


def hidden_folder(path: str) -> str:
    """Return the hidden folder in which a file lies, with a final `/`; empty if there is none."""
    folders = path.split("/")[:-1]
    for depth, folder in enumerate(folders, start=1):
        if folder.startswith(".") and folder not in (".", ".."):
            return "/".join(folders[:depth]) + "/"
    return ""


def is_hidden(path: str) -> bool:
    """Return whether a file is hidden, or lies in a hidden folder."""
    return path.rpartition("/")[2].startswith(".") or hidden_folder(path) != ""


def is_utf8(name: str) -> bool:
    """Return whether UTF-8 can encode a name, which is not certain of a name on a disk."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
