"""Find the images of a folder, and count the other files in it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reidray.data.images.image_formats import (
    IMAGE_SUFFIXES,
    is_image_name,
    may_be_image,
    suffix_of,
)
from reidray.data.listing.file_kinds import NO_SUFFIX, is_junk, read_heads, select_images
from reidray.errors import UserError
from reidray.storage.location import Location

_MAX_HEADS = 5  # number of files in a folder that `holds_images` reads the first bytes of


@dataclass(frozen=True)
class FoundImages:
    """Hold the images of a folder.

    Attributes:
        paths: the sorted paths of the images, relative to the root.
        skipped: the number of files that are no images, by suffix or kind. Files that operating
            systems make, such as Thumbs.db, are not counted.
    """

    paths: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def find_images(location: Location, under: str = "") -> FoundImages:
    """Find the images of a folder and of all folders in it.

    A file with the suffix of an image counts as one, even if it cannot be read. A file with an
    unknown suffix, or without one, counts as an image if its first bytes are those of an image.

    Args:
        location: the root of the paths.
        under: the folder within the root to search; empty for the root itself.

    Raises:
        UserError: the folder is missing, is a file or holds no images, or a link to a folder
            leaves the root.
        OSError: the object store failed.
    """
    # A folder with the name of an image is listed too: it then counts as an image that does not
    # decode, and is not overlooked.
    listed = location.list_files(under=under, hidden=True, as_files=IMAGE_SUFFIXES)
    skipped = Counter[str]()
    images = select_images(location, listed, skipped)
    if not images:
        raise no_images_error(location.join(under) if under else location, skipped)
    return FoundImages(tuple(images), dict(skipped))


def list_images(location: Location, under: str = "") -> list[str]:
    """Return the sorted paths of the images of a folder, as `find_images` finds them."""
    return list(find_images(location, under).paths)


def no_images_error(folder: Location, skipped: Mapping[str, int]) -> UserError:
    """Return the error that says that a folder holds no images, and what it holds instead."""
    found_instead = f"; {describe_skipped(skipped)}" if skipped else ""
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return UserError(f"{folder.uri}: holds no images ({suffixes}){found_instead}")


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """Return the counts of skipped files as one line, such as `skipped: 3 .txt, 1 .csv`."""
    kinds = sorted(skipped.items(), key=lambda kind: (-kind[1], kind[0]))
    return f"skipped: {', '.join(f'{count} {kind}' for kind, count in kinds)}"


def count_skipped(names: Iterable[str]) -> Counter[str]:
    """Count files by suffix, without those that operating systems make."""
    return Counter(suffix_of(name) or NO_SUFFIX for name in names if not is_junk(name))


def holds_images(location: Location) -> bool:
    """Return whether a folder itself holds images; the folders within do not count."""
    names = [name for name in location.list_children() if not is_junk(name)]
    if any(is_image_name(name) for name in names):
        return True
    unsure = [name for name in names if not name.endswith("/") and may_be_image(name)]
    return any(read_heads(location, unsure[:_MAX_HEADS]))
