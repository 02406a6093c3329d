import json
import shutil

import numpy as np
import pytest
from support.nightly_runs import make_model
from support.paths import ROOT
from support.pet_images import draw_pets
from support.rating_files import write_two_tastes

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.demo import generate_demo_set

UV = """#!/usr/bin/env bash
# Run what `uv run` would run in the environment of the tests.
[ "$1" = run ] || exit 0
shift
case "$*" in *train*|*tune*) set -- "$@" $TRAINING_FLAGS ;; esac
case "$1" in *.py) exec $RUN_SCRIPT "$@" ;; *) exec "$@" ;; esac
"""
REIDRAY = """#!/usr/bin/env bash
# Run the command of the package, whether or not the environment installs its scripts.
exec python -c "from reidray.cli.main import main; main()" "$@"
"""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with everything that the blocks of the README files name.

    CROPS is drawn people in the layout of Market-1501, QUERIES and GALLERY are its test part,
    truth.json holds the correct answers, RUN/model a small untrained model, and PETS, ratings.csv
    and movies.csv are the inputs of the other jobs.
    """
    folder = tmp_path_factory.mktemp("docs")
    drawn = folder / "drawn"
    generate_demo_set(drawn, people=20, images=240)
    lay_out_as_market(drawn, folder / "CROPS")
    (folder / "QUERIES").symlink_to("CROPS/query")
    (folder / "GALLERY").symlink_to("CROPS/bounding_box_test")
    write_truth(folder)
    (folder / "RUN" / "model").mkdir(parents=True)
    make_model(folder / "RUN" / "model", "apr", PEDESTRIAN_SCHEMA)
    draw_pets(folder / "PETS")
    write_two_tastes(folder)
    write_features(folder)
    write_scores(folder)
    for name in ("a", "b", "c", "d", "e"):
        shutil.copy(next((folder / "QUERIES").iterdir()), folder / f"{name}.jpg")
    (folder / "bin").mkdir()
    for name, script in (("uv", UV), ("reidray", REIDRAY)):
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    for name in ("jobs", "cluster", "tests", "reidray", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def lay_out_as_market(drawn, folder):
    """Copy the crops to the folders of Market-1501; one person of the test part is number 17."""
    people = (drawn / "truth" / "people.csv").read_text().splitlines()[1:]
    test = dict(line.split(",", 1) for line in people)
    last = max(int(line.split(",")[0]) for line in test.values())
    numbers = {last: 17, 17: last}
    for path in sorted(drawn.rglob("*.jpg")):
        name = path.relative_to(drawn).as_posix()
        if name.startswith("train/"):
            person, camera, frame = path.stem.split("_")
            part = "bounding_box_train"
        else:
            person, camera = test[name].split(",")
            camera, frame = f"c{camera}", path.stem
            part = "query" if name.startswith("queries/") else "bounding_box_test"
        number = numbers.get(int(person), int(person))
        target = folder / part / f"{number:04d}_{camera}s1_{int(frame) % 10**6:06d}_00.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def person_of(name):
    return int(name.split("_")[0])


def camera_of(name):
    return int(name.split("_c")[1][0])


def write_truth(folder):
    truth = {
        query: [n for n in names(folder / "GALLERY") if person_of(n) == person_of(query)]
        for query in names(folder / "QUERIES")
    }
    (folder / "truth.json").write_text(json.dumps(truth))


def write_features(folder):
    random = np.random.default_rng(0)
    for part, file in (("QUERIES", "query.npz"), ("GALLERY", "gallery.npz")):
        images = names(folder / part)
        people = np.array([person_of(name) for name in images])
        centres = np.random.default_rng(1).normal(size=(people.max() + 1, 16))
        features = centres[people] + random.normal(size=(len(images), 16))
        cameras = np.array([camera_of(name) for name in images])
        np.savez(folder / file, embedding=features, person=people, camera=cameras)


def write_scores(folder):
    ranked = ", ".join(names(folder / "GALLERY")[:20])
    lines = [f"{query}: {ranked}\n" for query in names(folder / "QUERIES")]
    (folder / "scores").mkdir()
    for file in ("reid_test.txt", "scores/reid_test.txt"):
        (folder / file).write_text("".join(lines))
    (folder / "scores" / "scoring.json").write_text("{}")
