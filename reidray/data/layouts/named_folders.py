"""Layouts of folders of fixed names, full of images whose names tell person and camera."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reidray.data.layouts.names import crops_manifest, read_named_crops
from reidray.data.layouts.structure import ReadOptions
from reidray.data.manifest import Manifest
from reidray.storage.location import Location


@dataclass(frozen=True)
class NamedFolders:
    """One such layout.

    Attributes:
        NAME: what it is called.
        EXPECTED: what it looks for.
        folders: folder to split. Folders that are not there are passed over.
        marks: the layout is recognised by any one of these folders.
        BESIDE: no other folders or files are used.
    """

    NAME: str
    EXPECTED: str
    folders: Mapping[str, str]
    marks: frozenset[str]
    BESIDE: frozenset[str] = frozenset()

    def recognises(self, _location: Location, names: Sequence[str]) -> bool:
        """Return whether a folder with these children looks like this layout."""
        return any(f"{mark}/" in names for mark in self.marks)

    def read(self, location: Location, options: ReadOptions) -> Manifest:
        """Return the manifest of a folder of this layout."""
        crops, notes = read_named_crops(location, self.folders, strict=options.strict)
        return crops_manifest(location, crops, self.NAME, notes, strict=options.strict)
