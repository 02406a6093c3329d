"""Labels of the crops of a split, as the manifest has them."""

import numpy as np
import pytest

from reidray.data.attribute_schema import Attribute, AttributeSchema
from reidray.data.crop_labels import CropLabels
from reidray.data.manifest_builder import build_manifest

COLUMNS = {
    "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
    "split": ["train", "val", "train", "train"],
    "person": [7, 8, None, 9],
    "camera": [1, None, None, 2],
}
SCHEMA = AttributeSchema((Attribute("hat", ("no", "yes")),))


def test_labels_are_those_of_one_split_and_unknown_ones_are_minus_one():
    manifest = build_manifest("root", COLUMNS, layout="manifest")
    labels = CropLabels.from_manifest(manifest, "train")
    assert labels.indices.tolist() == [0, 2, 3]
    assert labels.person_ids.tolist() == [7, -1, 9]
    assert labels.camera_ids.tolist() == [1, -1, 2]
    assert labels.indices.dtype == labels.person_ids.dtype == np.int32
    assert len(labels.class_labels) == 0
    assert labels.attribute_labels.shape == (3, 0)
    assert labels.target_values == {}
    assert len(CropLabels.from_manifest(manifest, "query")) == 0


@pytest.mark.parametrize("has_classes", [True, False])
def test_targets_are_the_class_or_else_the_attributes(has_classes):
    columns = COLUMNS | {"attr_hat": [1, 0, -1, 0]}
    if has_classes:
        columns |= {"label": [0, 1, None, 1]}
    classes = ("cat", "dog") if has_classes else ()
    manifest = build_manifest("root", columns, layout="manifest", schema=SCHEMA, classes=classes)
    labels = CropLabels.from_manifest(manifest, "train")
    expected = [[0], [-1], [1]] if has_classes else [[1], [-1], [0]]
    assert labels.targets.tolist() == expected
    names = {"class": ("cat", "dog")} if has_classes else {"hat": ("no", "yes")}
    assert labels.target_values == names


def test_large_ids_of_people_stay():
    people = [2**31, None, 5, 2**40]
    manifest = build_manifest("root", COLUMNS | {"person": people}, layout="manifest")
    assert CropLabels.from_manifest(manifest, "train").person_ids.tolist() == [2**31, 5, 2**40]


def test_crops_that_do_not_decode_are_left_out():
    labels = CropLabels.from_manifest(build_manifest("root", COLUMNS, layout="manifest"), "train")
    decoded = np.arange(len(COLUMNS["path"])) > 0
    kept = labels.take_decoded(decoded)
    assert (kept.indices.tolist(), kept.person_ids.tolist()) == ([2, 3], [-1, 9])
    assert labels.take_decoded(np.ones_like(decoded)) is labels
    assert labels.take(labels.person_ids > 0).num_people == 2
