"""Read re-identification data in any of the known layouts into a manifest."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from reidray.config.data_sources import pair_sources
from reidray.data.joined_manifests import check_images_differ, join_manifests, name_datasets
from reidray.data.layouts import flat_splits, folders, manifest_file
from reidray.data.layouts.layout import LAYOUTS, Layout, ReadOptions, layouts_in_order
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import ANNOTATIONS
from reidray.data.reading.folder_names import folder_names
from reidray.data.reading.image_folders import count_skipped, describe_skipped, holds_images
from reidray.data.reading.manifest_tables import has_columns
from reidray.errors import UserError
from reidray.storage.input_checks import check_data
from reidray.storage.location import Location

log = logging.getLogger("reidray")


_MAX_SHOWN = 3  # folders within that a message names
_MAX_SEARCHED = 20  # folders within a folder of no layout that are searched for a layout


def read_manifest(
    uri: str | Sequence[str],
    layout: str | Sequence[str] = "auto",
    *,
    strict: bool = False,
    root: str | None = None,
    follow_links: bool = False,
) -> Manifest:
    """Read a folder of images, or a manifest file, into a manifest. Log its counts and notes.

    Args:
        uri: a local path or `s3://` address of a folder in a known layout, or of a CSV or Parquet
            file with the columns of a manifest. Several are joined (see `join_manifests`).
        layout: the name of the layout, one of `LAYOUTS`; `auto` recognises it. Of several sets,
            one for all or one for each.
        strict: whether a finding that the notes of the manifest would count is an error.
        root: the root of the relative paths of a manifest file; by default the root that its
            metadata name, or else its own folder.
        follow_links: whether to read images to which links out of the folder lead.

    Returns:
        The manifest. Its table has a row per image (see `Manifest`).

    Raises:
        UserError: the folder is missing, empty or of no known layout, its layout is ambiguous, or a
            file in it is wrong; the message names the folder or file. Or sets cannot be joined.
        ValueError: there are more or fewer layouts than sets.
    """
    sources = pair_sources(uri, layout)
    is_joined = len(sources) > 1
    if is_joined:
        check_data("data", [source.data for source in sources])
    names = name_datasets([source.data for source in sources])
    manifests = {
        name: _read_one(
            *source,
            name=name if is_joined else None,
            strict=strict,
            root=root,
            follow_links=follow_links,
        )
        for name, source in zip(names, sources, strict=True)
    }
    if not is_joined:
        return manifests[names[0]]
    check_images_differ(manifests)
    joined = join_manifests(manifests)
    log.info("joined %s", joined.description)
    return joined


def _read_one(
    uri: str,
    layout: str,
    *,
    name: str | None,
    strict: bool,
    root: str | None,
    follow_links: bool,
) -> Manifest:
    """Read one data set, as `read_manifest` does, and log it under its name among joined sets."""
    location = Location(uri, follow_links)
    reader, names = _choose(location, layout)
    if root is not None and reader is not manifest_file:
        raise UserError(
            f"{location.uri}: is of the layout {reader.NAME}, and `root` goes with a manifest file "
            "only: leave it out"
        )
    found = reader.read(location, ReadOptions(strict, layout != "auto", root))
    notes = [] if reader is manifest_file else _note_skipped(names, found, reader)
    found = replace(found, follow_links=follow_links, notes=(*found.notes, *notes))
    log.info("%s: %s", f"{name} ({location.uri})" if name else location.uri, found.description)
    for note in found.notes:
        log.info("%s", f"{name}: {note}" if name else note)
    return found


def check_layout(
    uri: str | Sequence[str] | None,
    layout: str | Sequence[str] = "auto",
    *,
    follow_links: bool = False,
) -> None:
    """Check that a folder on a disk is of a known layout, without reading its images.

    Args:
        uri: a local path or `s3://` address, or several; None, and an address in a bucket, is not
            checked.
        layout: the name of the layout, one of `LAYOUTS`, or one for each address; `auto` recognises
            it.
        follow_links: whether to follow links out of the folder.

    Raises:
        UserError: the folder is missing, empty, of no known layout or ambiguous.
    """
    if uri is None:
        return
    for source in pair_sources(uri, layout):
        location = Location(source.data, follow_links)
        if not location.is_remote:
            _choose(location, source.layout)


def has_layout(location: Location) -> bool:
    """Return whether a file, or a folder that looks like one of the known layouts, can be read."""
    if location.is_file():
        return True
    names = location.list_children()
    return any(each.layout.recognises(location, names) for each in layouts_in_order())


def _choose(location: Location, layout: str) -> tuple[Layout, list[str]]:
    """Return the layout of a folder or file, and the children of a folder."""
    known = layouts_in_order()
    if layout != "auto" and layout not in LAYOUTS:
        readable = ", ".join(each.layout.NAME for each in known)
        raise UserError(f"layout {layout!r} is not known, expected auto, {readable}")
    if location.is_file():
        if not location.name.endswith(manifest_file.SUFFIXES) or layout not in (
            "auto",
            manifest_file.NAME,
        ):
            raise UserError(f"{location.uri}: is a file, expected a folder or a manifest file")
        return manifest_file, []
    names = location.list_children()
    if not names:
        raise UserError(f"{location.uri}: the folder is empty; expected images in a known layout")
    readers: list[Layout] = [each.layout for each in known]
    unmarked = [each.layout for each in known if not each.has_marks]
    candidates = [reader for reader in readers if layout in ("auto", reader.NAME)]
    for reader in candidates:
        if reader.recognises(location, names):
            if layout == "auto" and reader in unmarked:
                _check_tables(location, names, reader)
            return reader, names
    other = next((each for each in readers if each.recognises(location, names)), None)
    if other is not None:
        raise UserError(
            f"{location.uri}: is not of the layout {layout} ({candidates[0].EXPECTED}), and looks "
            f"like {other.NAME}: leave `layout` out, or give `layout={other.NAME}`"
        )
    inner = _suggest_inner(location, names, candidates)
    if inner:
        raise UserError(f"{location.uri}: is of no layout itself; {inner}")
    manifest = _suggest_manifest(location, names)
    if manifest:
        raise UserError(f"{location.uri}: no layout recognised: {manifest}")
    looked_for = "; ".join(f"{reader.NAME}: {reader.EXPECTED}" for reader in candidates)
    found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise UserError(f"{location.uri}: no layout recognised; looked for {looked_for}; found {found}")


def _check_tables(location: Location, names: Sequence[str], reader: Layout) -> None:
    """Refuse a folder with a table that has the columns of a manifest under another name."""
    tables = [
        name for name in names if name.endswith(manifest_file.SUFFIXES) and name != ANNOTATIONS
    ]
    for table in tables[:_MAX_SEARCHED]:
        if has_columns(location, table):
            raise UserError(
                f"{location.uri}: {table} has the columns of a manifest, and the folders look like "
                f"the layout {reader.NAME}: choose the first by `data={location.join(table).uri}`, "
                f"the second by `layout={reader.NAME}`"
            )


def _suggest_inner(location: Location, names: Sequence[str], candidates: Sequence[Layout]) -> str:
    """Return the advice to read a folder within that has a layout; empty where none has."""
    inner = []
    for folder in folder_names(names)[:_MAX_SEARCHED]:
        here = location.join(folder)
        children = here.list_children()
        reader = next((each for each in candidates if each.recognises(here, children)), None)
        if reader is not None:
            inner.append(f"`data={here.uri}` (layout {reader.NAME})")
    more = f" or one of {len(inner) - _MAX_SHOWN} others" if len(inner) > _MAX_SHOWN else ""
    return f"give {' or '.join(inner[:_MAX_SHOWN])}{more}" if inner else ""


def _suggest_manifest(location: Location, names: Sequence[str]) -> str:
    """Return the advice to write a manifest for images of unknown people; empty without images."""
    loose = [
        each for each in folder_names(names)[:_MAX_SEARCHED] if holds_images(location.join(each))
    ]
    tables = [name for name in names if name.endswith(manifest_file.SUFFIXES)]
    if not loose:
        return ""
    advice = f"give `data={location.join(tables[0]).uri}`" if tables else "write a manifest"
    return (
        f"the people on the images in {', '.join(f'{each}/' for each in loose[:3])} are unknown: "
        f"{advice}, a table with the columns path, split and person"
    )


def _note_skipped(names: Sequence[str], found: Manifest, reader: Layout) -> list[str]:
    """Return notes on the children of a folder that the layout does not use."""
    tops = {path.partition("/")[0] for path in found.table["path"].to_pylist()}
    rest = [name for name in names if name not in reader.BESIDE and name != ANNOTATIONS]
    unused = [f"{name}/" for name in folder_names(rest) if name not in tops]
    notes = [f"folders skipped: {', '.join(unused)}"] if unused else []
    if reader in (folders, flat_splits) and not folders.splits_of(names):
        return notes  # the notes of the layout count these files with those in the folders
    files = count_skipped(name for name in rest if not name.endswith("/"))
    return notes + ([f"files beside the folders {describe_skipped(files)}"] if files else [])
