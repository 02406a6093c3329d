"""Read MSMT17 (Wei et al. 2018): images in train/ and test/, and files that list them."""

import posixpath
import sys
from collections import Counter
from collections.abc import Sequence

from reidray.data.ids import parse_id_number
from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.manifest_builder import keep_existing
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "msmt17"
EXPECTED = (
    "list_train.txt, list_val.txt, list_query.txt, list_gallery.txt, train/, test/ (or "
    "mask_train_v2/, mask_test_v2/)"
)

_TRAIN_SPLITS = ("train", "val")
_TRAIN, _VAL = "list_train.txt", "list_val.txt"
_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_LISTS = {
    _TRAIN: ("train", "train"),
    _VAL: ("train", "val"),
    "list_query.txt": ("test", "query"),
    "list_gallery.txt": ("test", "gallery"),
}
BESIDE = frozenset(_LISTS)


def recognises(_location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    return _TRAIN in names or {"list_query.txt", "list_gallery.txt"} <= set(names)


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout. Count listed images that do not exist.

    The labels of train and test both start at 0 but stand for different people: people of train
    become 1 to n, and people of test follow. In the released lists the people of list_val.txt are
    those of list_train.txt, so that they cannot serve for validation. Published results, and
    Torchreid by default, do not train on them either: they are left out and counted.
    """
    names = location.list_children()
    crops: list[Crop] = []
    for name, (part, split) in _LISTS.items():
        if name in names:
            known = _FOLDERS[part]
            folder = next((each for each in known if f"{each}/" in names), known[0])
            crops += _read_list(location, name, folder, split)
    last_train = max((int(c.person or 0) for c in crops if c.split in _TRAIN_SPLITS), default=0)
    crops = [
        crop
        if crop.split in _TRAIN_SPLITS
        else crop._replace(person=int(crop.person or 0) + last_train)
        for crop in crops
    ]
    files: list[str] = []
    skipped: Counter[str] = Counter()
    for folder in sorted({crop.path.split("/")[0] for crop in crops}):
        if location.join(folder).is_dir():
            found = find_images(location, folder)
            files += found.paths
            skipped.update(found.skipped)
    unlisted = sorted({*files} - {crop.path for crop in crops})
    notes = [describe_skipped(skipped)] if skipped else []
    if unlisted:
        notes.append(f"images in no list: {len(unlisted)} (the first is {unlisted[0]!r})")
    manifest = build_crop_manifest(location, crops, NAME, notes, strict=options.strict)
    return keep_existing(manifest, files, strict=options.strict)


def _read_list(location: Location, name: str, folder: str, split: str) -> list[Crop]:
    crops = []
    text = location.read_bytes(name).decode(errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        fields = posixpath.basename(path).split("_")
        number = parse_id_number(label)
        if number is None or number < 0 or len(fields) < 3 or parse_id_number(fields[2]) is None:
            raise UserError(
                f"{name}, line {row}: {line!r} is not a path and a label, "
                "expected one such as 0000/0000_000_01_0303morning_0015_0.jpg 0"
            )
        crops.append(Crop(f"{folder}/{path}", split, number + 1, fields[2]))
    return crops


register_layout(sys.modules[__name__], order=30)
