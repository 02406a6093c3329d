"""Plan which camera sees which people, and write the demo set."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidray.data.reading.annotations import write_annotations
from reidray.demo.people import Person, generate_people
from reidray.demo.scene import Camera, place_cameras, render_crop
from reidray.errors import UserError
from reidray.storage.csv_files import write_csv
from reidray.storage.output_checks import check_output_folder
from reidray.storage.staging import atomic_folder, check_replaceable

_LIST_FILE = ".demo.json"
"""The list of the files of a demo set, which are the only ones that another set may replace."""

_JPEG_QUALITY = 88
_QUERY, _GALLERY = "queries", "test"


@dataclass(frozen=True)
class _PlannedCrop:
    """Hold the path, the person and the camera of a crop to render."""

    path: str
    person: int
    camera: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def generate_demo_set(
    destination: Path, *, people: int = 100, cameras: int = 4, images: int = 3000, seed: int = 0
) -> None:
    """Generate a small re-ID data set in the Trento layout, with the ground truth of its test part.

    Four people in five are in `train/`, with their attributes in `annotations_train.csv`; the
    others are in `queries/` and `test/`. A camera with a query of a person has no gallery image of
    that person, so that every match is in another camera. Some people in `test/` have no query.
    `truth/` holds `reid_truth.json` ({query: [matching gallery images]}),
    `classification_truth.csv` (a row per image of `test/`) and `people.csv` (file, person, camera).
    The same arguments give the same bytes. An earlier demo set is replaced in one step; the hidden
    file `.demo.json` identifies it.

    Args:
        destination: the folder of the data set.
        people: the number of people, at least 4.
        cameras: the number of cameras, at least 2.
        images: the number of crops, at least 4 per person.
        seed: the seed of the data set, at least 0.

    Raises:
        UserError: a number is too small, or the destination cannot be written or holds other files.
    """
    _check_counts(people, cameras, images, seed)
    with atomic_folder(destination, replaces=_demo_files(destination)) as folder:
        plan = np.random.default_rng([seed, 0])
        numbers = [int(number) + 1 for number in plan.permutation(people)]
        train_count = min(4 * people // 5, people - 2)
        train_people, test_people = numbers[:train_count], numbers[train_count:]
        persons = {
            **dict(zip(train_people, generate_people(plan, len(train_people)), strict=True)),
            **dict(zip(test_people, generate_people(plan, len(test_people)), strict=True)),
        }
        images_per_person = {
            number: images // people + (i < images % people) for i, number in enumerate(numbers)
        }
        train = [
            crop
            for number in train_people
            for crop in _plan_train(plan, number, cameras, images_per_person[number])
        ]
        test = _plan_test(plan, test_people, cameras, images_per_person)
        _render_crops(folder, train + test, persons, place_cameras(plan, cameras), seed)
        rows = ((str(number), persons[number].attributes) for number in sorted(train_people))
        (folder / "annotations_train.csv").write_bytes(write_annotations(rows))
        _write_truth(folder / "truth", test, persons)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
        (folder / _LIST_FILE).write_text(json.dumps(sorted(files), indent=1) + "\n")


def check_demo_folder(destination: Path) -> None:
    """Check that a folder can be written, and holds nothing but a demo set.

    Raises:
        UserError: the folder cannot be written, or holds other files.
    """
    check_output_folder(destination)
    check_replaceable(destination, _demo_files(destination))


def _demo_files(destination: Path) -> frozenset[str]:
    """Return the files of the demo set in a folder; none if it holds no demo set."""
    try:
        files = json.loads((destination / _LIST_FILE).read_bytes())
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        return frozenset()
    return frozenset([*files, _LIST_FILE])


def _check_counts(people: int, cameras: int, images: int, seed: int) -> None:
    for name, value, minimum in (
        ("people", people, 4),
        ("cameras", cameras, 2),
        ("images", images, 4 * people),
        ("seed", seed, 0),
    ):
        if value < minimum:
            raise UserError(f"demo set: `{name}` is {value}, expected at least {minimum}")


def _plan_train(
    rng: np.random.Generator, person: int, cameras: int, count: int
) -> Iterable[_PlannedCrop]:
    frames = np.sort(rng.choice(10**8, count, replace=False))
    for i, frame in enumerate(frames):
        camera = i * cameras // count
        yield _PlannedCrop(f"train/{person:04d}_c{camera + 1}_{frame:09d}.jpg", person, camera)


def _plan_test(
    rng: np.random.Generator, people: list[int], cameras: int, images_per_person: dict[int, int]
) -> list[_PlannedCrop]:
    """Plan the crops of the test people, with anonymous names in a random order."""
    without_query = set(people[: max(1, len(people) // 10)])
    seen: dict[str, list[tuple[int, int]]] = {_QUERY: [], _GALLERY: []}
    for person in people:
        order = [int(camera) for camera in rng.permutation(cameras)]
        query_cameras = 0 if person in without_query else int(rng.integers(1, min(3, cameras)))
        queries = min(query_cameras * int(rng.integers(2, 4)), images_per_person[person] // 2)
        others = order[query_cameras:]
        seen[_QUERY] += [(person, order[i % query_cameras]) for i in range(queries)]
        for i in range(images_per_person[person] - queries):
            seen[_GALLERY].append((person, others[i % len(others)]))
    return [
        _PlannedCrop(f"{folder}/{number:06d}.jpg", *crops[pick])
        for folder, crops in seen.items()
        for number, pick in enumerate(rng.permutation(len(crops)))
    ]


def _render_crops(
    folder: Path,
    crops: list[_PlannedCrop],
    persons: dict[int, Person],
    cameras: list[Camera],
    seed: int,
) -> None:
    for name in ("train", _QUERY, _GALLERY):
        (folder / name).mkdir()
    for number, crop in enumerate(crops):
        rng = np.random.default_rng([seed, 1, number])
        image = render_crop(cameras[crop.camera], persons[crop.person], rng)
        image.save(folder / crop.path, quality=_JPEG_QUALITY)


def _write_truth(folder: Path, test: list[_PlannedCrop], persons: dict[int, Person]) -> None:
    folder.mkdir()
    queries = [crop for crop in test if crop.path.startswith(_QUERY)]
    gallery = [crop for crop in test if crop.path.startswith(_GALLERY)]
    matches: dict[int, list[str]] = {}
    for crop in gallery:
        matches.setdefault(crop.person, []).append(crop.name)
    truth = {query.name: matches[query.person] for query in queries}
    (folder / "reid_truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    rows = ((crop.name, persons[crop.person].attributes) for crop in gallery)
    (folder / "classification_truth.csv").write_bytes(write_annotations(rows))
    people = ((crop.path, crop.person, crop.camera + 1) for crop in test)
    (folder / "people.csv").write_bytes(write_csv(("file", "person", "camera"), people))
