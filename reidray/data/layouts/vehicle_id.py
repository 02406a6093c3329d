"""Read VehicleID (Liu et al. 2016): images of vehicles in one folder, and files that list them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from reidray.data.ids import parse_id_number
from reidray.data.layouts.layout import ReadOptions, register_layout
from reidray.data.manifest import Manifest
from reidray.data.manifest_builder import keep_existing
from reidray.data.reading.crop_lists import Crop, build_crop_manifest
from reidray.data.reading.image_folders import describe_skipped, find_images
from reidray.errors import UserError
from reidray.storage.location import Location

LISTS = "train_test_split"
IMAGES = "image"
TRAIN = f"{LISTS}/train_list.txt"


@dataclass(frozen=True)
class VehicleId:
    """Read VehicleID with one of its test sets.

    Attributes:
        NAME: the name of the layout.
        vehicles: the number of vehicles in the test set.
        BESIDE: the folders that it reads beside images.
    """

    NAME: str
    vehicles: int
    BESIDE: frozenset[str] = frozenset({f"{LISTS}/", "attribute/"})

    @property
    def EXPECTED(self) -> str:  # noqa: N802 - a constant of a layout
        """Return a description of the folders and files of the layout, for messages."""
        return f"{IMAGES}/, {TRAIN}, {self.test_list}"

    @property
    def test_list(self) -> str:
        """Return the file that lists the test images."""
        return f"{LISTS}/test_list_{self.vehicles}.txt"

    def recognises(self, _location: Location, names: Sequence[str]) -> bool:
        """Return whether a folder with these children looks like this layout."""
        return {f"{IMAGES}/", f"{LISTS}/"} <= set(names)

    def read(self, location: Location, options: ReadOptions) -> Manifest:
        """Return the manifest of a folder of this layout. Count listed images that do not exist.

        The first listed image of each test vehicle is the gallery, and its others are queries.
        Published results are means over ten random draws of these galleries. Vehicle n has the
        number n + 1, as 0 would mean a distractor. Cameras are unknown.

        Raises:
            UserError: there is no list, or a line of one is wrong.
        """
        lists = [file for file in (TRAIN, self.test_list) if location.join(file).is_file()]
        if not lists:
            raise UserError(f"{location.uri}: has no list; expected {self.EXPECTED}")
        listed = {file: _read_list(location, file) for file in lists}
        crops = [Crop(path, "train", vehicle) for path, vehicle in listed.get(TRAIN, ())]
        seen: set[int] = set()
        for path, vehicle in listed.get(self.test_list, ()):
            crops.append(Crop(path, "query" if vehicle in seen else "gallery", vehicle))
            seen.add(vehicle)
        found = find_images(location, IMAGES)
        notes = [describe_skipped(Counter(found.skipped))] if found.skipped else []
        unlisted = set(found.paths) - {path for path, _ in chain(*listed.values())}
        if unlisted:
            notes.append(f"images in no list that is read: {len(unlisted)}")
        manifest = build_crop_manifest(location, crops, self.NAME, notes, strict=options.strict)
        return keep_existing(manifest, found.paths, strict=options.strict)


def _read_list(location: Location, file: str) -> list[tuple[str, int]]:
    """Return the path of each listed image, and the number of its vehicle."""
    rows = []
    text = location.read_bytes(file).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, vehicle = line.strip().partition(" ")
        label = parse_id_number(vehicle.strip())
        if label is None or label < 0:
            raise UserError(
                f"{file}, line {number}: {line!r} is not an image and a vehicle, expected one such "
                "as 0000001 12"
            )
        rows.append((f"{IMAGES}/{name.removesuffix('.jpg')}.jpg", label + 1))
    return rows


for _order, _name, _vehicles in (
    (31, "vehicleid", 800),
    (32, "vehicleid_medium", 1600),
    (33, "vehicleid_large", 2400),
):
    register_layout(VehicleId(_name, _vehicles), order=_order)
