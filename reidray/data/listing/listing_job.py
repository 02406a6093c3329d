"""List all images of a folder or a bucket into shards."""

from collections.abc import Callable, Iterable
from itertools import chain, repeat

from reidray.data.listing.folder_ranges import split_folder
from reidray.data.listing.image_listing import ImageListing, RunTasks
from reidray.data.listing.key_ranges import split_ranges
from reidray.data.listing.listing_tasks import (
    ListedFiles,
    ListingTarget,
    ListingTask,
    join_listed,
    list_folder,
    list_keys,
)
from reidray.data.listing.path_range import PathRange
from reidray.data.reading.image_folders import no_images_error
from reidray.storage.location import Location

FOLDER_TASKS = 64
"""The number of ranges into which a folder on a disk is split at most."""

ROUNDS = ((1, 30_000), (8, 100_000), (64, 1_000_000))
"""The number of ranges into which each round splits a bucket, and the number of keys after which a
task leaves the rest of its range to the next round. The last round is repeated."""


def write_listing(
    images: Location,
    work: Location,
    name: str,
    run_tasks: RunTasks = map,
    *,
    with_stamps: bool,
    check_names: Callable[[Iterable[str]], None],
) -> ImageListing:
    """List the images of a folder, as `find_images` finds them, into sorted Parquet shards.

    One task lists a small folder or bucket. A larger folder on a disk is split between the folders
    in it for parallel tasks. A larger bucket is split wherever its keys differ, and again where
    tasks have met too many keys, in `ROUNDS`. This process holds descriptions of shards only.

    Args:
        images: the folder or bucket to list.
        work: the folder to write the shards to.
        name: the beginning of the names of the shards, such as `gallery`.
        run_tasks: runs the tasks, as `map` does.
        with_stamps: whether to write the stamps of the files, as of `Location.read_stamps`.
        check_names: raises a UserError for a path that later steps cannot take. Tasks call it, so
            it must be a function of a module.

    Raises:
        UserError: the folder is missing, is a file, cannot be read or holds no images, a link
            leaves it, or a name cannot be used.
        OSError: the object store failed, or a shard cannot be written.
    """
    target = ListingTarget(images, work, name, with_stamps, check_names)
    listed = (_list_bucket if images.is_remote else _list_disk)(target, run_tasks)
    if not listed.shards:
        raise no_images_error(images, listed.skipped)
    return ImageListing(images, work, listed.shards, listed.skipped)


def _list_disk(target: ListingTarget, run_tasks: RunTasks) -> ListedFiles:
    """List a folder on a disk by as many tasks as it fills shards, up to `FOLDER_TASKS`."""
    with target.images.reading():
        ranges = split_folder(target.images, FOLDER_TASKS)
    tasks = [ListingTask(target, number, paths) for number, paths in enumerate(ranges)]
    return join_listed(run_tasks(list_folder, tasks))


def _list_bucket(target: ListingTarget, run_tasks: RunTasks) -> ListedFiles:
    """List a bucket in rounds of tasks. Each round lists what the one before has left."""
    done: list[tuple[PathRange, ListedFiles]] = []
    left, number = [PathRange()], 0
    for parts, limit in chain(ROUNDS, repeat(ROUNDS[-1])):
        if parts > 1:
            with target.images.reading():
                left = split_ranges(target.images, left, parts)
        if not left:
            break
        tasks = [
            ListingTask(target, number, keys, limit) for number, keys in enumerate(left, number)
        ]
        number += len(tasks)
        listed = list(run_tasks(list_keys, tasks))
        done += zip(left, listed, strict=True)
        left = [each.rest for each in listed if each.rest is not None]
    return join_listed(listed for _, listed in sorted(done, key=lambda each: each[0].after))
