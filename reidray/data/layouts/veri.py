"""VeRi-776 (Liu et al. 2016): vehicles, in files such as `0002_c002_00030600_0.jpg`."""

from reidray.data.layouts.named_folders import NamedFolders

LAYOUT = NamedFolders(
    NAME="veri",
    EXPECTED="image_train/, image_test/, image_query/",
    folders={"image_train": "train", "image_test": "gallery", "image_query": "query"},
    marks=frozenset({"image_train", "image_test", "image_query"}),
)
