"""Read Market-1501 (Zheng et al. 2015), and data sets that differ in the names of folders.

DukeMTMC-reID and CUHK03-NP have the folders of Market-1501. Junk is person -1, a distractor person
0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.reading.crop_lists import build_crop_manifest, read_named_crops
from reidray.storage.location import Location


@dataclass(frozen=True)
class NamedFolders:
    """Read folders of fixed names, full of images that name person and camera.

    Attributes:
        NAME: the name of the layout.
        EXPECTED: a description of its folders, for messages.
        folders: the split of each folder. Folders that do not exist are skipped.
        marks: folders that identify the layout; one of them is sufficient.
        BESIDE: other files and folders that it reads; none.
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
        return build_crop_manifest(location, crops, self.NAME, notes, strict=options.strict)


MARKET1501 = NamedFolders(
    NAME="market1501",
    EXPECTED="bounding_box_train/, bounding_box_test/, query/",
    folders={"bounding_box_train": "train", "bounding_box_test": "gallery", "query": "query"},
    marks=frozenset({"bounding_box_train", "bounding_box_test"}),
)

VERI = NamedFolders(
    NAME="veri",
    EXPECTED="image_train/, image_test/, image_query/",
    folders={"image_train": "train", "image_test": "gallery", "image_query": "query"},
    marks=frozenset({"image_train", "image_test", "image_query"}),
)
"""VeRi-776 (Liu et al. 2016): vehicles, in files such as `0002_c002_00030600_0.jpg`."""

QUT = NamedFolders(
    NAME="qut",
    EXPECTED="Training/, Testing/Gallery/, Testing/Probe/",
    folders={"Training": "train", "Testing/Gallery": "gallery", "Testing/Probe": "query"},
    marks=frozenset({"Training", "Testing"}),
)
"""The subset of Market-1501 of QUT's CAB420, with one query and one gallery image per person."""

for _order, _layout in ((15, MARKET1501), (20, VERI), (25, QUT)):
    register_layout(_layout, order=_order)
