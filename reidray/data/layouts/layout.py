"""Define the interface of a layout, and the options with which it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reidray.data.manifest import Manifest
from reidray.storage.location import Location


@dataclass(frozen=True)
class ReadOptions:
    """Hold the options with which a layout is read.

    Attributes:
        strict: whether a finding that the notes of the manifest would count is an error.
        chosen: whether the user named the layout, which resolves ambiguous folders.
        root: the root of the relative paths of a manifest file; None for its own folder.
    """

    strict: bool = False
    chosen: bool = False
    root: str | None = None


class Layout(Protocol):
    """Recognise and read the folders of one layout."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a constant of a module
        """Return the name of the layout, as the field `layout` takes it."""

    @property
    def EXPECTED(self) -> str:  # noqa: N802 - a constant of a module
        """Return a description of the folders and files of the layout, for messages."""

    @property
    def BESIDE(self) -> frozenset[str]:  # noqa: N802 - a constant of a module
        """Return the files, and the folders with a final slash, that it reads beside images."""

    def recognises(self, location: Location, names: Sequence[str], /) -> bool:
        """Return whether a folder with these children looks like this layout."""

    def read(self, location: Location, options: ReadOptions, /) -> Manifest:
        """Return the manifest of a folder of this layout."""
