"""Joining data sets: nobody is in two of them, and each image is read where it lies."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_images import tiny_jpeg, write_images

import reidray
from reidray.config.data_sources import pair_sources
from reidray.data.attribute_schema import Attribute, AttributeSchema
from reidray.data.images.decoding import decode_files
from reidray.data.joined_manifests import join_manifests, name_datasets
from reidray.data.manifest_builder import build_manifest
from reidray.data.split import split_by_person
from reidray.errors import UserError

MARKET = [
    *(f"bounding_box_train/{person:04d}_c{camera}_1.jpg" for person in (2, 7) for camera in (1, 2)),
    "bounding_box_test/0000_c3_1.jpg",
    "bounding_box_test/-1_c3_1.jpg",
]
NAMED = [f"{person}/cam{camera}/1.jpg" for person in ("anna", "ben", "eve") for camera in (1, 2)]


@pytest.fixture
def folders(tmp_path):
    """Return two data sets: one of numbered people in splits, and one of folders with names."""
    write_images(tmp_path / "market", MARKET)
    write_images(tmp_path / "crops", NAMED)
    return [str(tmp_path / "market"), str(tmp_path / "crops")]


def set_of(people, splits=None, cameras=None, **attributes):
    """Return a manifest of people, with attributes as a list of labels and their values."""
    count = len(people)
    columns = {
        "path": [f"{number:03d}.jpg" for number in range(count)],
        "split": splits or ["train"] * count,
        "person": people,
        "camera": cameras or [None] * count,
    }
    schema = AttributeSchema(
        tuple(Attribute(name, values) for name, (_, values) in attributes.items())
    )
    labels = {f"attr_{name}": labels for name, (labels, _) in attributes.items()}
    return build_manifest("/root", columns | labels, layout="manifest", schema=schema)


def test_people_and_cameras_of_two_folders_are_kept_apart_and_named(folders):
    joined = reidray.read_manifest(folders)
    assert joined.person_ids == {
        "market/2": 1,
        "market/7": 2,
        "crops/anna": 3,
        "crops/ben": 4,
        "crops/eve": 5,
    }
    assert list(joined.camera_ids) == ["market/1", "market/2", "market/3", "crops/1", "crops/2"]
    table = joined.table.to_pandas().set_index("path")
    assert list(table.index) == sorted(table.index)
    assert table.loc["crops/ben/cam2/1.jpg", ["person", "camera", "dataset"]].tolist() == [
        *(4, 5, "crops"),
    ]
    assert table.loc["market/bounding_box_test/-1_c3_1.jpg", "person"] == -1
    assert table.loc["market/bounding_box_test/0000_c3_1.jpg", "person"] == 0
    assert joined.summary["datasets"]["market"]["train"]["people"] == 2
    assert joined.summary["datasets"]["crops"]["layout"] == "folders"
    assert "train 10 images (5 people" in joined.description
    with pytest.raises(ValueError, match="several folders"):
        _ = joined.location


def test_the_log_names_each_set_and_its_layout_once(folders, tmp_path, caplog):
    write_images(tmp_path / "old" / "crops", NAMED)
    (tmp_path / "crops" / "notes").mkdir()
    with caplog.at_level("INFO", logger="reidray"):
        joined = reidray.read_manifest([*folders, str(tmp_path / "old" / "crops")])
    assert joined.layout == "market1501, folders"
    lines = caplog.messages
    assert [line for line in lines if "layout" in line] == [
        f"market ({folders[0]}): layout market1501: train 4 images (2 people, 2 cameras); "
        "gallery 2 images (1 camera, 1 distractor, 1 junk)",
        f"crops ({folders[1]}): layout folders: train 6 images (3 people, 2 cameras)",
        f"crops-2 ({tmp_path}/old/crops): layout folders: train 6 images (3 people, 2 cameras)",
    ]
    assert "crops: folders skipped: notes/" in lines
    assert lines[-1].startswith("joined 3 sets: train 16 images (8 people, 6 cameras); gallery 2")


def test_each_image_is_read_in_the_folder_of_its_set(folders, tmp_path):
    (tmp_path / "market" / MARKET[0]).write_bytes(tiny_jpeg((0, 0, 255)))
    joined = reidray.read_manifest(folders)
    paths = [f"market/{MARKET[0]}", f"crops/{NAMED[0]}", "crops/none.jpg"]
    decoded = decode_files(joined.files, paths, (16, 8))
    assert decoded.kept == (0, 1)
    assert decoded.crops[0, 0, 0, 2] > 200 > 100 > decoded.crops[1, 0, 0, 2]
    assert [image.path for image in decoded.bad] == ["crops/none.jpg"]
    with pytest.raises(UserError, match="leaves"):
        joined.files.read_bytes("crops/../market/x.jpg")


@given(
    st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=12), min_size=2, max_size=4),
    st.integers(0, 3),
)
def test_two_images_show_one_person_after_joining_if_they_did_before(sets, first):
    joined = join_manifests(
        {f"set{n}": set_of([10**18 * (p > first) + p for p in each]) for n, each in enumerate(sets)}
    )
    before = [
        (number if person > 0 else None, person)
        for number, each in enumerate(sets)
        for person in each
    ]
    after = joined.table["person"].to_pylist()
    for (one, person), new in zip(before, after, strict=True):
        assert new == person if one is None else new > 0
    known = {(key, new) for key, new in zip(before, after, strict=True) if key[0] is not None}
    assert len(known) == len({key for key, _ in known}) == len({new for _, new in known})
    assert {new for _, new in known} == set(range(1, len(known) + 1))


def test_an_attribute_that_a_set_lacks_is_unknown_and_labels_follow_the_larger_set():
    joined = join_manifests(
        {
            "a": set_of([1, 2], hat=([1, 0], ("yes", "no"))),
            "b": set_of([1, 2, 3], hat=([2, -1, 1], ("maybe", "no", "yes")), bag=([0, 1, 1], "xy")),
        }
    )
    assert joined.schema.attributes == (
        Attribute("hat", ("maybe", "no", "yes")),
        Attribute("bag", "xy"),
    )
    assert joined.table["attr_hat"].to_pylist() == [1, 2, 2, -1, 1]
    assert joined.table["attr_bag"].to_pylist() == [-1, -1, 0, 1, 1]


def test_attributes_that_contradict_are_refused_with_both_sets():
    a, b = set_of([1], sex=([0], ("male", "female"))), set_of([1], sex=([0], ("m", "f")))
    message = "attribute 'sex' is male or female in a, and m or f in b: write"
    with pytest.raises(UserError, match=message):
        join_manifests({"a": a, "b": b})


def test_more_cameras_than_a_manifest_holds_are_refused():
    crowd = set_of([1] * 20_000, cameras=list(range(20_000)))
    with pytest.raises(UserError, match="a, b: name 40000 cameras together, expected 32767"):
        join_manifests({"a": crowd, "b": crowd})


@pytest.mark.parametrize("order", ["random", "files"])
def test_a_set_without_validation_people_is_split_as_it_is_alone(order):
    people = np.repeat(np.arange(3, 23), 3).tolist()
    alone = set_of(people)
    own_val = set_of([1, 1, 2, 2, None], splits=["train", "train", "val", "val", "train"])
    both = join_manifests({"own": own_val, "alone": alone})
    joined = split_by_person(both, 0.3, seed=5, order=order)
    split = split_by_person(alone, 0.3, seed=5, order=order)
    assert joined.rows_of("alone")["split"].to_pylist() == split.table["split"].to_pylist()
    assert joined.rows_of("own")["split"].to_pylist() == own_val.table["split"].to_pylist()
    with pytest.raises(UserError, match="few: train holds 1 people, expected at least 2"):
        split_by_person(join_manifests({"few": set_of([1, 1]), "alone": alone}))


def test_the_fingerprint_tells_which_set_an_image_is_from():
    one, two = set_of([1, 2]), set_of([3, 4])
    prints = {
        manifest.fingerprint
        for manifest in (
            one,
            join_manifests({"a": one, "b": two}),
            join_manifests({"b": one, "a": two}),
            join_manifests({"a": one, "b": two, "c": two}),
        )
    }
    assert len(prints) == 4


def test_sets_and_layouts_that_do_not_fit_are_refused(folders, tmp_path):
    with pytest.raises(UserError, match=re.escape("names one place twice")):
        reidray.read_manifest([folders[0], f"{folders[0]}/../market"])
    with pytest.raises(UserError, match="no such folder or manifest"):
        reidray.read_manifest([folders[0], str(tmp_path / "absent")])
    with pytest.raises(ValueError, match="`layout` has 3 values and `data` 2"):
        reidray.read_manifest(folders, ["market1501", "folders", "auto"])
    with pytest.raises(UserError, match="is not of the layout msmt17"):
        reidray.read_manifest(folders, ["market1501", "msmt17"])
    assert [source.layout for source in pair_sources(folders, "auto")] == ["auto"] * 2


def test_sets_that_share_images_are_refused(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders[0])
    (inner,) = Path(folders[0]).glob("*train*")
    message = r"data sets market and {} share \d+ images, such as /.*: name each image in one set"
    for again in (inner, tmp_path / "link" / inner.name):
        with pytest.raises(UserError, match=message.format(inner.name)):
            reidray.read_manifest([folders[0], str(again)], ["market1501", "auto"])


def test_sets_of_the_same_name_get_numbers():
    uris = ["a/train", "b/train", "s3://bucket", "x.parquet", "train"]
    assert name_datasets(uris) == ("train", "train-2", "bucket", "x", "train-3")
