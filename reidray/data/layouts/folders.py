"""One folder per person, at the top or below one folder per split."""

from collections.abc import Sequence

from reidray.data.image_folders import holds_images, list_images
from reidray.data.layouts.names import Crop, camera_of, crops_manifest
from reidray.data.manifest import SPLITS, Manifest
from reidray.data.storage import Location
from reidray.errors import UserError

NAME = "folders"
EXPECTED = "one folder of images per person, at the top or in train/, val/, query/, gallery/"

_LOOKED_INTO = 10  # of perhaps thousands of folders, before the layout is recognised


def recognises(location: Location, names: Sequence[str]) -> bool:
    """Whether the folder looks like this layout."""
    splits = _split_folders(names)
    people = location.join(splits[0]) if splits else location
    folders = [name for name in people.list_children() if name.endswith("/")]
    return any(holds_images(people.join(folder)) for folder in folders[:_LOOKED_INTO])


def read(location: Location, *, strict: bool) -> Manifest:
    """The manifest of a folder of this layout.

    A folder's name is the person's number, or a name where one of them is no number (see
    `number_people`). The camera is taken from names such as `0002_c1s1_000451`.

    Raises:
        UserError: an image lies in no person's folder, where `strict` or where all do.
    """
    splits = _split_folders(location.list_children())
    found = [(path, path.split("/")) for path in list_images(location)]
    depth = 1 if splits else 0
    placed = [
        (path, parts[0] if splits else "train", parts[depth])
        for path, parts in found
        if len(parts) > depth + 1 and (not splits or parts[0] in splits)
    ]
    notes = []
    if len(placed) < len(found):
        taken = {path for path, _, _ in placed}
        first = next(path for path, _ in found if path not in taken)
        notes.append(
            f"images outside a person's folder, left out: {len(found) - len(placed)} "
            f"(the first is {first!r})"
        )
        if strict or not placed:
            raise UserError(f"{location.uri}: {notes[0]}; expected {EXPECTED}")
    crops = [Crop(path, split, person, camera_of(path)) for path, split, person in placed]
    return crops_manifest(location, crops, NAME, notes, strict=strict)


def _split_folders(names: Sequence[str]) -> list[str]:
    return [split for split in SPLITS if f"{split}/" in names]
