"""The interface of a layout, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reidray.data.manifest import Manifest
from reidray.storage.location import Location


@dataclass(frozen=True)
class ReadOptions:
    """Set how a layout is read.

    Attributes:
        strict: refuse what would be counted in the manifest's notes.
        chosen: the user named the layout, which settles what is ambiguous.
        root: folder where the relative paths of a manifest file begin.
    """

    strict: bool = False
    chosen: bool = False
    root: str | None = None


class Layout(Protocol):
    """Describe what a module of this folder offers."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a constant of a module
        """Name of the layout."""

    @property
    def EXPECTED(self) -> str:  # noqa: N802 - a constant of a module
        """Description of the files that it looks for."""

    @property
    def BESIDE(self) -> frozenset[str]:  # noqa: N802 - a constant of a module
        """Folders, with their final slash, and files that it uses beside those of the images."""

    def recognises(self, location: Location, names: Sequence[str], /) -> bool:
        """Return whether a folder with these children looks like this layout."""

    def read(self, location: Location, options: ReadOptions, /) -> Manifest:
        """Return the manifest of a folder of this layout."""
