"""Who walks past which camera, and the files that come of it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reidray.data.annotations import write_annotations
from reidray.demo.people import Person, generate_people
from reidray.demo.scene import Camera, place_cameras, render_crop
from reidray.errors import UserError
from reidray.storage.csv_files import write_csv
from reidray.storage.output_checks import check_output_folder
from reidray.storage.staging import atomic_folder, check_replaceable

_LIST_FILE = ".demo.json"
"""Names the files of a demo set, which are the only ones that another may replace."""

_JPEG_QUALITY = 88
_QUERY, _GALLERY = "queries", "test"


@dataclass(frozen=True)
class _Shot:
    """One crop to be taken: of whom, by which camera, under which name."""

    path: str
    person: int
    camera: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def generate_demo_set(
    destination: Path, *, people: int = 100, cameras: int = 4, images: int = 3000, seed: int = 0
) -> None:
    """Draws a small re-ID set in the Trento layout, with the known truth of its test part.

    Four people in five are in `train/` with their attributes in `annotations_train.csv`, the
    others in `queries/` and `test/`. A camera that took a query of someone took no gallery image
    of them, so every correct answer is another camera's; some people in `test/` nobody asks for.
    `truth/` holds `reid_truth.json` ({query: [its gallery names]}), `classification_truth.csv`
    (one row per image of `test/`) and `people.csv` (file, person, camera). The same arguments
    give the same bytes. An existing demo set at `destination` is replaced in one step; the hidden
    file `.demo.json` tells it from a set of somebody's own.

    Raises:
        UserError: too few people, cameras or images, a negative seed, or a destination that
            cannot be written or holds other things.
    """
    _check_counts(people, cameras, images, seed)
    with atomic_folder(destination, replaces=_drawn_files(destination)) as folder:
        plan = np.random.default_rng([seed, 0])
        numbers = [int(number) + 1 for number in plan.permutation(people)]
        learnt = min(4 * people // 5, people - 2)
        known, unknown = numbers[:learnt], numbers[learnt:]
        crowd = {
            **dict(zip(known, generate_people(plan, len(known)), strict=True)),
            **dict(zip(unknown, generate_people(plan, len(unknown)), strict=True)),
        }
        share = {
            number: images // people + (i < images % people) for i, number in enumerate(numbers)
        }
        train = [s for number in known for s in _plan_train(plan, number, cameras, share[number])]
        test = _plan_test(plan, unknown, cameras, share)
        _take_shots(folder, train + test, crowd, place_cameras(plan, cameras), seed)
        rows = ((str(number), crowd[number].attributes) for number in sorted(known))
        (folder / "annotations_train.csv").write_bytes(write_annotations(rows))
        _write_truth(folder / "truth", test, crowd)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
        (folder / _LIST_FILE).write_text(json.dumps(sorted(files), indent=1) + "\n")


def check_demo_folder(destination: Path) -> None:
    """Refuse a folder that cannot be written, or holds anything but a demo set.

    Raises:
        UserError: says so.
    """
    check_output_folder(destination)
    check_replaceable(destination, _drawn_files(destination))


def _drawn_files(destination: Path) -> frozenset[str]:
    """Return the files of the demo set that lies in a folder; none where it holds no demo set."""
    try:
        files = json.loads((destination / _LIST_FILE).read_bytes())
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        return frozenset()
    return frozenset([*files, _LIST_FILE])


def _check_counts(people: int, cameras: int, images: int, seed: int) -> None:
    for name, value, least in (
        ("people", people, 4),
        ("cameras", cameras, 2),
        ("images", images, 4 * people),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"demo set: {name} is {value}, expected at least {least}")


def _plan_train(rng: np.random.Generator, person: int, cameras: int, count: int) -> Iterable[_Shot]:
    frames = np.sort(rng.choice(10**8, count, replace=False))
    for i, frame in enumerate(frames):
        camera = i * cameras // count
        yield _Shot(f"train/{person:04d}_c{camera + 1}_{frame:09d}.jpg", person, camera)


def _plan_test(
    rng: np.random.Generator, people: list[int], cameras: int, share: dict[int, int]
) -> list[_Shot]:
    """The shots of the test people under anonymous names, in an order that tells nothing."""
    nobody_asks_for = set(people[: max(1, len(people) // 10)])
    seen: dict[str, list[tuple[int, int]]] = {_QUERY: [], _GALLERY: []}
    for person in people:
        order = [int(camera) for camera in rng.permutation(cameras)]
        asking = 0 if person in nobody_asks_for else int(rng.integers(1, min(3, cameras)))
        queries = min(asking * int(rng.integers(2, 4)), share[person] // 2)
        others = order[asking:]
        seen[_QUERY] += [(person, order[i % asking]) for i in range(queries)]
        for i in range(share[person] - queries):
            seen[_GALLERY].append((person, others[i % len(others)]))
    return [
        _Shot(f"{folder}/{number:06d}.jpg", *shots[pick])
        for folder, shots in seen.items()
        for number, pick in enumerate(rng.permutation(len(shots)))
    ]


def _take_shots(
    folder: Path, shots: list[_Shot], crowd: dict[int, Person], cameras: list[Camera], seed: int
) -> None:
    for name in ("train", _QUERY, _GALLERY):
        (folder / name).mkdir()
    for number, shot in enumerate(shots):
        rng = np.random.default_rng([seed, 1, number])
        crop = render_crop(cameras[shot.camera], crowd[shot.person], rng)
        crop.save(folder / shot.path, quality=_JPEG_QUALITY)


def _write_truth(folder: Path, test: list[_Shot], crowd: dict[int, Person]) -> None:
    folder.mkdir()
    queries = [shot for shot in test if shot.path.startswith(_QUERY)]
    gallery = [shot for shot in test if shot.path.startswith(_GALLERY)]
    answers: dict[int, list[str]] = {}
    for shot in gallery:
        answers.setdefault(shot.person, []).append(shot.name)
    truth = {query.name: answers[query.person] for query in queries}
    (folder / "reid_truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    rows = ((shot.name, crowd[shot.person].attributes) for shot in gallery)
    (folder / "classification_truth.csv").write_bytes(write_annotations(rows))
    people = ((shot.path, shot.person, shot.camera + 1) for shot in test)
    (folder / "people.csv").write_bytes(write_csv(("file", "person", "camera"), people))
