"""The layouts of re-identification data: each turns a folder into a manifest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from reidray.data.layouts import folders, manifest, market1501, msmt17, pets, qut, trento
from reidray.data.manifest import Manifest
from reidray.data.storage import Location
from reidray.errors import UserError


class _Layout(Protocol):
    """What a module of this folder offers: how it is called, what it looks for, and to read it."""

    NAME: str
    EXPECTED: str

    def recognises(self, location: Location, names: Sequence[str], /) -> bool: ...

    def read(self, location: Location, *, strict: bool) -> Manifest: ...


# In the order in which `auto` tries them: what has the plainest marks comes first.
_LAYOUTS: tuple[_Layout, ...] = (manifest, market1501, qut, msmt17, pets, trento, folders)

LAYOUTS: tuple[str, ...] = tuple(layout.NAME for layout in _LAYOUTS)


def read_layout(
    uri: str,
    layout: str = "auto",
    *,
    strict: bool = False,
    root: str | None = None,
    follow_links: bool = False,
) -> Manifest:
    """The manifest of a folder, or of a manifest file.

    Args:
        uri: a local path or `s3://` address.
        layout: one of `LAYOUTS`, or `auto` to recognise it.
        strict: what would be counted in the manifest's notes is an error.
        root: the folder where the relative paths of a manifest file begin; by default the one that
            its metadata name, or its own folder.
        follow_links: read images that links out of the folder lead to.

    Raises:
        UserError: there is no such folder, it is empty or of no known layout, or a file in it is
            wrong; the message names it.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"layout {layout!r} is not known, expected auto, {', '.join(LAYOUTS)}")
    location = Location(uri, follow_links)
    reader = _choose(location, layout)
    if reader is manifest:
        found = manifest.read(location, strict=strict, root=root)
    elif root is None:
        found = reader.read(location, strict=strict)
    else:
        raise UserError(
            f"{location.uri}: is of the layout {reader.NAME}, and --root goes with a manifest file "
            "only: leave it out"
        )
    return replace(found, follow_links=follow_links)


def _choose(location: Location, layout: str) -> _Layout:
    """Return what reads this folder or file."""
    if location.is_file():
        if not location.name.endswith(manifest.SUFFIXES) or layout not in ("auto", manifest.NAME):
            raise UserError(f"{location.uri}: is a file, expected a folder or a manifest file")
        return manifest
    names = location.list_children()
    if not names:
        raise UserError(f"{location.uri}: the folder is empty; expected images in a known layout")
    candidates = [reader for reader in _LAYOUTS if layout in ("auto", reader.NAME)]
    for reader in candidates:
        if reader.recognises(location, names):
            return reader
    looked_for = "; ".join(f"{reader.NAME}: {reader.EXPECTED}" for reader in candidates)
    found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise UserError(f"{location.uri}: no layout recognised; looked for {looked_for}; found {found}")
