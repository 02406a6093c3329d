"""Market-1501 (Zheng et al. 2015), and DukeMTMC-reID and CUHK03-NP, which follow it.

Junk is person -1, a distractor person 0.
"""

from reidray.data.layouts.named_folders import NamedFolders

LAYOUT = NamedFolders(
    NAME="market1501",
    EXPECTED="bounding_box_train/, bounding_box_test/, query/",
    folders={"bounding_box_train": "train", "bounding_box_test": "gallery", "query": "query"},
    marks=frozenset({"bounding_box_train", "bounding_box_test"}),
)
