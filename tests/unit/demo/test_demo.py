import csv
import hashlib
import json
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from reidray.baselines.pca import PCABaseline
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.layouts import read_manifest
from reidray.data.reading.annotations import read_annotations
from reidray.demo import check_demo_folder, generate_demo_set
from reidray.errors import UserError


def read_people(root):
    """Return the (person, camera) of every file of the test part."""
    with (root / "truth" / "people.csv").open() as file:
        return {row["file"]: (row["person"], row["camera"]) for row in csv.DictReader(file)}


def build_ground_truth(root):
    return json.loads((root / "truth" / "reid_truth.json").read_text())


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def digest_files(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def draw_small(destination, **changes):
    generate_demo_set(
        destination, **{"people": 10, "cameras": 3, "images": 95, "seed": 5} | changes
    )
    return destination


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "set"
    generate_demo_set(root, images=600, seed=1)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return draw_small(tmp_path_factory.mktemp("small") / "set")


def test_holds_as_many_crops_of_64_by_128_as_asked_for(demo):
    files = [*(demo / "train").iterdir(), *(demo / "test").iterdir(), *(demo / "queries").iterdir()]
    assert len(files) == 600
    for file in files[::97]:
        with Image.open(file) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (64, 128), "RGB")


def test_is_read_as_the_trento_layout_without_notes(demo):
    manifest = read_manifest(str(demo), strict=True)
    assert manifest.layout == "trento"
    assert manifest.notes == ("folders skipped: truth/",)
    train = manifest.split("train")
    assert len(set(train["person"].to_pylist())) == 80
    assert set(train["camera"].to_pylist()) == {1, 2, 3, 4}
    assert manifest.split("query").num_rows == len(list_names(demo / "queries"))
    assert manifest.split("gallery").num_rows == len(list_names(demo / "test"))


def test_people_of_train_and_test_are_different(demo):
    learnt = {int(name[:4]) for name in list_names(demo / "train")}
    unseen = {int(person) for person, _ in read_people(demo).values()}
    assert (len(learnt), len(unseen)) == (80, 20)
    assert not learnt & unseen


def test_people_csv_names_every_file_of_the_test_part(demo):
    names = {f"{folder}/{n}" for folder in ("test", "queries") for n in list_names(demo / folder)}
    assert set(read_people(demo)) == names


def test_truth_names_all_gallery_images_of_the_query_s_person_and_no_other(demo):
    people, truth = read_people(demo), build_ground_truth(demo)
    assert sorted(truth) == list_names(demo / "queries")
    gallery = defaultdict(set)
    for file, (person, _) in people.items():
        folder, _, name = file.partition("/")
        if folder == "test":
            gallery[person].add(name)
    for query, names in truth.items():
        assert set(names) == gallery[people[f"queries/{query}"][0]]
        assert len(names) == len(set(names)) > 0


def test_every_match_comes_from_another_camera(demo):
    people = read_people(demo)
    for query, names in build_ground_truth(demo).items():
        camera = people[f"queries/{query}"][1]
        assert camera not in {people[f"test/{name}"][1] for name in names}


def test_the_gallery_holds_people_without_a_query(demo):
    people = read_people(demo)
    asked = {person for file, (person, _) in people.items() if file.startswith("queries")}
    assert len({person for person, _ in people.values()} - asked) == 2


def test_classification_truth_has_a_row_per_gallery_image_that_fits_its_person(demo):
    path = demo / "truth" / "classification_truth.csv"
    rows = read_annotations(path.read_bytes(), path.name)
    assert list(rows) == list_names(demo / "test")
    people = read_people(demo)
    seen = defaultdict(set)
    for name, codes in rows.items():
        seen[people[f"test/{name}"][0]].add(tuple(sorted(codes.items())))
    assert all(len(said) == 1 for said in seen.values())


def test_every_value_of_the_test_people_is_one_that_several_training_people_have(demo):
    train = read_annotations((demo / "annotations_train.csv").read_bytes(), "train")
    truth = demo / "truth" / "classification_truth.csv"
    test = read_annotations(truth.read_bytes(), "test")
    for attribute in PEDESTRIAN_SCHEMA.attributes:
        known = Counter(codes[attribute.name] for codes in train.values())
        asked = {codes[attribute.name] for codes in test.values()}
        assert all(known[value] >= 2 for value in asked), attribute.name
        assert max(known.values()) <= 0.9 * len(train), attribute.name


def test_raw_pixels_find_people_badly(demo):
    def read_crops(folder, names):
        return np.stack([np.asarray(Image.open(demo / folder / name))[::4, ::4] for name in names])

    truth = build_ground_truth(demo)
    names = np.array(list_names(demo / "test"))
    baseline = PCABaseline.fit(read_crops("train", list_names(demo / "train")), components=64)
    gallery = baseline.embed(read_crops("test", names))
    query = baseline.embed(read_crops("queries", truth))
    distances = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    first = names[distances.argmin(axis=1)]
    hits = [name in truth[asked] for asked, name in zip(truth, first, strict=True)]
    assert np.mean(hits) < 0.5


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones(small, tmp_path):
    once = digest_files(small)
    assert once == digest_files(draw_small(tmp_path / "again"))
    other = digest_files(draw_small(tmp_path / "other", seed=6))
    assert not set(once.values()) & set(other.values())


def test_other_counts_of_people_and_cameras_are_obeyed(tmp_path):
    root = draw_small(tmp_path / "set", people=7, cameras=6, images=100)
    train = list_names(root / "train")
    unseen = {person for person, _ in read_people(root).values()}
    assert len({name[:4] for name in train}) + len(unseen) == 7
    assert {name[4:8] for name in train} == {f"_c{camera}_" for camera in range(1, 7)}
    assert len(train) + len(read_people(root)) == 100


def test_every_query_of_the_smallest_set_has_a_match(tmp_path):
    root = draw_small(tmp_path / "set", people=4, cameras=2, images=16)
    truth = build_ground_truth(root)
    assert truth
    assert all(truth.values())


def test_replaces_an_earlier_demo_set_whole(small, tmp_path):
    draw_small(tmp_path / "set", people=5, images=20)
    again = digest_files(draw_small(tmp_path / "set"))
    assert again == digest_files(small)


def test_leaves_a_folder_alone_that_holds_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UserError):
        draw_small(tmp_path)
    assert list_names(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("name", ["train/mine.jpg", "train/0001/mine.jpg", "truth", "mine.csv"])
def test_never_replaces_a_data_set_of_the_user(small, tmp_path, name):
    root = shutil.copytree(small, tmp_path / "set")
    if name == "truth":
        (root / ".demo.json").unlink()
    else:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("mine")
    before = digest_files(root)
    with pytest.raises(UserError, match="would be lost; choose an empty folder"):
        check_demo_folder(root)
    with pytest.raises(UserError, match="would be lost; choose an empty folder"):
        draw_small(root)
    assert digest_files(root) == before


@pytest.mark.parametrize(
    ("name", "value"), [("people", 3), ("cameras", 1), ("images", 39), ("seed", -1)]
)
def test_an_impossible_count_is_named_and_nothing_is_written(tmp_path, name, value):
    with pytest.raises(UserError, match=rf"`{name}` is {value}"):
        draw_small(tmp_path / "set", **{name: value})
    assert list_names(tmp_path) == []
