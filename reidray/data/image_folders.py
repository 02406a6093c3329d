"""Which images lie in a folder."""

from reidray.data.disk import IMAGE_SUFFIXES, is_image
from reidray.data.storage import Location
from reidray.errors import UserError


def list_images(location: Location, under: str = "") -> list[str]:
    """The images of a folder, and of the folders in it, as sorted paths relative to `location`.

    All that is named as an image is listed, whether or not it can be read.

    Args:
        location: the root of the paths.
        under: list the images of this folder within the root only.

    Raises:
        UserError: the folder is missing, is a file or holds no images, or a link to a folder
            leaves the root.
    """
    images = [path for path in location.list_files(under=under) if is_image(path)]
    if not images:
        folder = location.join(under).uri if under else location.uri
        raise UserError(f"{folder}: holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def holds_images(location: Location) -> bool:
    """Whether there are images in the folder itself, not in the folders within."""
    return any(is_image(name) for name in location.list_children())
