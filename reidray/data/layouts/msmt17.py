"""MSMT17 (Wei et al. 2018): images in train/ and test/, and files that list them."""

import posixpath
from collections.abc import Sequence

from reidray.data.identities import read_number
from reidray.data.image_folders import list_images
from reidray.data.layouts.names import Crop, crops_manifest
from reidray.data.manifest import Manifest, keep_existing
from reidray.data.storage import Location
from reidray.errors import UserError

NAME = "msmt17"
EXPECTED = "list_train.txt, list_val.txt, list_query.txt, list_gallery.txt, train/, test/"

# The people of list_val.txt are those of list_train.txt, so it cannot serve as a validation set.
_LISTS = {
    "list_train.txt": ("train", "train"),
    "list_val.txt": ("train", "train"),
    "list_query.txt": ("test", "query"),
    "list_gallery.txt": ("test", "gallery"),
}


def recognises(_location: Location, names: Sequence[str]) -> bool:
    """Whether the folder looks like this layout."""
    return "list_train.txt" in names


def read(location: Location, *, strict: bool) -> Manifest:
    """The manifest of a folder of this layout; listed images that are not there are counted.

    The labels of train and test both start at 0 and are other people: train becomes 1 .. n and
    test follows on.
    """
    crops: list[Crop] = []
    for name, (folder, split) in _LISTS.items():
        if location.join(name).is_file():
            crops += _read_list(location, name, folder, split)
    last_train = max((int(c.person or 0) for c in crops if c.split == "train"), default=0)
    crops = [
        crop if crop.split == "train" else crop._replace(person=int(crop.person or 0) + last_train)
        for crop in crops
    ]
    manifest = crops_manifest(location, crops, NAME, (), strict=strict)
    folders = {crop.path.split("/")[0] for crop in crops}
    files = [
        path
        for folder in folders
        if location.join(folder).is_folder()
        for path in list_images(location, folder)
    ]
    return keep_existing(manifest, files, strict=strict)


def _read_list(location: Location, name: str, folder: str, split: str) -> list[Crop]:
    crops = []
    text = location.read_bytes(name).decode(errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        fields = posixpath.basename(path).split("_")
        number = read_number(label)
        if number is None or number < 0 or len(fields) < 3 or read_number(fields[2]) is None:
            raise UserError(
                f"{name}, line {row}: {line!r} is not a path and a label, "
                "expected one such as 0000/0000_000_01_0303morning_0015_0.jpg 0"
            )
        crops.append(Crop(f"{folder}/{path}", split, number + 1, fields[2]))
    return crops
