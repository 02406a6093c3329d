"""The Market-1501 subset of QUT's CAB420: Training, and one image per person to find and to ask."""

from reidray.data.layouts.named_folders import NamedFolders

LAYOUT = NamedFolders(
    NAME="qut",
    EXPECTED="Training/, Testing/Gallery/, Testing/Probe/",
    folders={"Training": "train", "Testing/Gallery": "gallery", "Testing/Probe": "query"},
    marks=frozenset({"Training", "Testing"}),
)
