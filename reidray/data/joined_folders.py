"""Read the images of several data sets, each below the name of its set."""

from collections.abc import Mapping
from dataclasses import dataclass

from reidray.storage.location import Location


@dataclass(frozen=True)
class JoinedFolders:
    """Read files in one of several folders, by paths that begin with the folder's name.

    Attributes:
        folders: the folders by name. A name holds no slash.
    """

    folders: Mapping[str, Location]

    @property
    def is_remote(self) -> bool:
        """Return whether a folder lies in an object store."""
        return any(folder.is_remote for folder in self.folders.values())

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Return the contents of a file, as `Location.read_bytes` does.

        Args:
            path: the name of the folder, a slash, and the path of the file relative to it.
            limit: the number of bytes that the file may hold; None for any number.

        Raises:
            OutsideLinkError: the path leaves the folder through a link.
            UserError: the path leaves the folder by its text.
            OSError: the file cannot be read, is not a regular file, or holds more than the limit.
        """
        name, _, inner = path.partition("/")
        return self.folders[name].read_bytes(inner, limit)
