"""Read Oxford-IIIT Pets (Parkhi et al. 2012): a breed and a mask of the animal per image."""

import re
import sys
from collections.abc import Sequence

from reidray.data.ids import parse_id_number
from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.manifest_builder import build_manifest
from reidray.data.reading.image_folders import describe_skipped, find_images, list_images
from reidray.errors import UserError
from reidray.storage.location import Location

NAME = "pets"
EXPECTED = "images/, annotations/trainval.txt, annotations/test.txt, annotations/trimaps/"

_LISTS = {"annotations/trainval.txt": "train", "annotations/test.txt": "gallery"}


BESIDE = frozenset({"annotations/"})


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Return whether a folder with these children looks like this layout."""
    if not {"images/", "annotations/"} <= set(names):
        return False
    return bool({"trainval.txt", "test.txt"} & set(location.join("annotations").list_children()))


def read(location: Location, options: ReadOptions) -> Manifest:
    """Return the manifest of a folder of this layout, with the columns `label` and `mask_path`.

    Labels count from 0 in the order of the class ids of the lists, without gaps for absent classes.
    Listed images without a file or a mask, and files in no list, are left out and counted.

    Raises:
        UserError: a list is wrong; or lists, images and masks do not match, and `options.strict` is
            on.
    """
    found = find_images(location, "images")
    images = {_stem(path): path for path in found.paths}
    masks = {_stem(path): path for path in list_images(location, "annotations/trimaps")}
    listed = [
        (name, class_id, split)
        for file, split in _LISTS.items()
        if location.join(file).is_file()
        for name, class_id in _read_list(location, file)
    ]
    names = {name for name, _, _ in listed}
    notes = tuple(
        f"{what}: {len(which)} (the first is {min(which)!r})"
        for what, which in (
            ("listed images without a file, left out", names - images.keys()),
            ("listed images without a mask, left out", (names & images.keys()) - masks.keys()),
            ("images in neither list, left out", images.keys() - names),
        )
        if which
    )
    if options.strict and notes:
        raise UserError(f"{location.uri}: {'; '.join(notes)}; mend the lists")
    if found.skipped:
        notes += (f"images/: {describe_skipped(found.skipped)}",)
    rows = [row for row in listed if row[0] in images and row[0] in masks]
    labels, classes = _number_classes(rows)
    return build_manifest(
        location.uri,
        {
            "path": [images[name] for name, _, _ in rows],
            "split": [split for _, _, split in rows],
            "label": [labels[class_id] for _, class_id, _ in rows],
            "mask_path": [masks[name] for name, _, _ in rows],
        },
        layout=NAME,
        classes=classes,
        notes=notes,
    )


def _read_list(location: Location, file: str) -> list[tuple[str, int]]:
    entries = []
    text = location.read_bytes(file).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        class_id = parse_id_number(fields[1]) if len(fields) > 1 else None
        if class_id is None or class_id < 0:
            raise UserError(
                f"{file}, line {number}: {line!r} is not a name and a class id, "
                "expected one such as Abyssinian_100 1 1 1"
            )
        entries.append((fields[0], class_id))
    return entries


def _number_classes(rows: list[tuple[str, int, str]]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the label of each class id, and the breed of each label from the file names."""
    breeds = {class_id: re.sub(r"_\d+$", "", name) for name, class_id, _ in rows}
    ids = sorted(breeds)
    return {class_id: label for label, class_id in enumerate(ids)}, tuple(breeds[i] for i in ids)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


register_layout(sys.modules[__name__], order=35)
