"""List a folder, or a range of the keys of a bucket, into shards: the functions that tasks run."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from reidray.data.images.image_formats import IMAGE_SUFFIXES
from reidray.data.listing.file_kinds import HIDDEN_FOLDERS, is_junk, select_images
from reidray.data.listing.image_listing import ListingShard
from reidray.data.listing.key_ranges import key_prefix
from reidray.data.listing.path_range import PathRange
from reidray.data.listing.shard_writer import ShardWriter
from reidray.data.listing.sorted_walk import walk_sorted
from reidray.storage import object_store
from reidray.storage.location import Location, settled_before
from reidray.storage.paths import hidden_folder

_BATCH = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Item = TypeVar("Item")


@dataclass(frozen=True)
class ListingTarget:
    """Hold what all tasks of a listing share.

    Attributes:
        images: the folder or bucket to list.
        work: the folder of the shard files.
        name: the beginning of the names of the shard files.
        with_stamps: whether to write stamps.
        check_names: raises a UserError for a path that later steps cannot take.
    """

    images: Location
    work: Location
    name: str
    with_stamps: bool
    check_names: Callable[[Iterable[str]], None]


@dataclass(frozen=True)
class ListingTask:
    """Hold a range of paths to list.

    Attributes:
        target: what all tasks share.
        number: the number of the task, which the names of its shard files hold.
        paths: the range.
        limit: the number of keys of a bucket after which the task stops at the end of a page.
    """

    target: ListingTarget
    number: int
    paths: PathRange
    limit: int = sys.maxsize

    def open_writer(self) -> ShardWriter:
        """Return a writer of the shards of this task."""
        target = self.target
        return ShardWriter(target.work, f"{target.name}-{self.number:05d}", target.check_names)


@dataclass(frozen=True)
class ListedFiles:
    """Hold what a task has listed.

    Attributes:
        shards: the shards that it has written, in order; their positions count from its first.
        skipped: the number of files that are no images, by suffix or kind.
        rest: the part of the range that is not listed yet; None where the task has listed it all.
        hidden_folders: the hidden folders that hold the first and the last file of the range;
            empty for a file in none. None where the range holds no file.
    """

    shards: tuple[ListingShard, ...]
    skipped: Mapping[str, int]
    rest: PathRange | None = None
    hidden_folders: tuple[str, str] | None = None


def list_folder(task: ListingTask) -> ListedFiles:
    """List a range of a folder on a disk into shards, in the memory of its largest folder's names.

    Raises:
        UserError: the folder is missing, is a file or cannot be read, a link leaves it, or a name
            cannot be used.
        OSError: a shard cannot be written.
    """
    target, images, skipped = task.target, task.target.images, Counter[str]()
    writer = task.open_writer()
    paths = walk_sorted(
        images.uri,
        lambda listed: select_images(images, listed, skipped),
        task.paths,
        follow_links=images.follow_links,
        as_files=IMAGE_SUFFIXES,
    )
    while batch := _read(images, lambda: list(islice(paths, _BATCH))):
        writer.add(batch, images.read_stamps(batch) if target.with_stamps else [""] * len(batch))
    writer.close()
    return ListedFiles(tuple(writer.shards), skipped)


def list_keys(task: ListingTask) -> ListedFiles:
    """List a range of the keys of a bucket into shards, page by page.

    Raises:
        UserError: there is no such folder, the store failed after all retries or lists keys out of
            order, or a name cannot be used.
        OSError: the first bytes of a file cannot be read, or a shard cannot be written.
    """
    target, images = task.target, task.target.images
    writer = task.open_writer()
    skipped, settled = Counter[str](), settled_before()
    first_folder: str | None = None
    last_folder: str | None = None
    count, rest = 0, None
    pages = _iter_pages(images, task.paths)
    while page := _read(images, lambda: next(pages, None)):
        listed, stamps = [], {}
        for path, entry in page:
            if not path or path.endswith("/"):
                continue  # an empty object that stands for a folder
            folder = hidden_folder(path)
            if not folder:
                listed.append(path)
                stamps[path] = _stamp(entry, settled)
            elif folder != last_folder:
                listed.append(folder)
            first_folder = folder if first_folder is None else first_folder
            last_folder = folder
        paths = select_images(images, listed, skipped)
        writer.add(paths, [stamps[path] if target.with_stamps else "" for path in paths])
        count += len(page)
        last = page[-1][0]
        if count >= task.limit and last:
            rest = PathRange(last, task.paths.until)
            break
    if count == 0 and task.paths == PathRange():
        with images.reading():
            raise FileNotFoundError(images.uri)
    writer.close()
    folders = None if first_folder is None or last_folder is None else (first_folder, last_folder)
    return ListedFiles(tuple(writer.shards), skipped, rest, folders)


def join_listed(parts: Iterable[ListedFiles]) -> ListedFiles:
    """Return the listing of adjacent ranges, whose shards are numbered from the first one.

    Args:
        parts: what the tasks of the ranges have listed, in the order of the ranges.
    """
    shards: list[ListingShard] = []
    skipped = Counter[str]()
    position, before = 0, ""
    for part in parts:
        for shard in part.shards:
            shards.append(replace(shard, first=position))
            position += shard.rows
        skipped.update(part.skipped)
        if part.hidden_folders is not None:
            first, last = part.hidden_folders
            if first and first == before and not is_junk(first):
                skipped[HIDDEN_FOLDERS] -= 1  # both ranges have counted it
            before = last
    return ListedFiles(tuple(shards), dict(+skipped))


def _read(images: Location, request: Callable[[], Item]) -> Item:
    """Return the answer to a request that reads the folder of the images."""
    with images.reading():
        return request()


def _iter_pages(images: Location, keys: PathRange) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield pages of the paths of a range, relative to the folder, with their entries.

    Raises:
        OSError: the store failed, or does not list the keys in the order of their bytes.
    """
    prefix, last = key_prefix(images), keys.after
    start = {"StartAfter": prefix + keys.after} if keys.after else {}
    for answer in object_store.iter_pages(images.uri, "list_objects_v2", Prefix=prefix, **start):
        page: list[tuple[str, dict[str, Any]]] = []
        for entry in answer.get("Contents", []):
            path = entry["Key"].removeprefix(prefix)
            if path and path <= last:
                raise OSError(f"the store lists {path!r} after {last!r}, expected sorted keys")
            if keys.until is not None and path > keys.until:
                if page:
                    yield page
                return
            page.append((path, entry))
            last = path
        if page:
            yield page


def _stamp(entry: Mapping[str, Any], settled: int) -> str:
    """Return the stamp of an entry of a listing, as `Location.read_stamps` does."""
    modified = (entry["LastModified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return object_store.stamp(entry["Size"], modified, settled)
