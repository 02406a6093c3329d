"""Data sets whose lists or file names tell vehicles, animals and people apart."""

import re

import pytest
from support.tiny_images import write_images

import reidray
from reidray.errors import UserError


def vehicle_id(root, lists):
    """Write eight images as VehicleID has them, and its lists."""
    write_images(root, [f"image/{number:07d}.jpg" for number in range(1, 9)])
    (root / "train_test_split").mkdir()
    (root / "attribute").mkdir()
    for name, lines in lists.items():
        (root / "train_test_split" / name).write_text("\n".join(lines) + "\n")
    return str(root)


LISTS = {
    "train_list.txt": ["0000001 0", "0000002 0", "0000003 7"],
    "test_list_800.txt": ["0000004 3", "0000005 3", "0000006 9", "0000009 9"],
    "test_list_1600.txt": ["0000004 3", "0000007 3"],
}


def test_vehicles_are_read_from_their_lists_with_one_gallery_image_each(tmp_path):
    data = vehicle_id(tmp_path / "v", LISTS)
    manifest = reidray.read_manifest(data)
    rows = manifest.table.to_pandas()
    assert manifest.layout == "vehicleid"
    assert rows["person"].tolist() == [1, 1, 8, 4, 4, 10]
    assert rows["split"].tolist() == [*["train"] * 3, "gallery", "query", "gallery"]
    assert rows["camera"].isna().all()
    assert any("not there: 1" in note for note in manifest.notes)
    assert "images in no list that is read: 2" in manifest.notes
    medium = reidray.read_manifest(data, "vehicleid_medium")
    assert medium.split("query")["path"].to_pylist() == ["image/0000007.jpg"]
    with pytest.raises(UserError, match="0000009"):
        reidray.read_manifest(data, strict=True)


@pytest.mark.parametrize("line", ["0000001", "0000001 x", "0000001 -3"])
def test_a_wrong_line_of_a_list_of_vehicles_is_refused(tmp_path, line):
    data = vehicle_id(tmp_path / "v", {"train_list.txt": ["0000002 1", line]})
    with pytest.raises(UserError, match=r"train_list.txt, line 2: .* such as 0000001 12"):
        reidray.read_manifest(data)


def test_a_folder_of_vehicles_without_lists_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no list; expected image/, train_test_split/"):
        reidray.read_manifest(vehicle_id(tmp_path / "v", {}))


def test_people_of_ilids_are_the_first_digits_of_a_name(tmp_path):
    write_images(tmp_path, [f"Persons/{name}.jpg" for name in ("0001001", "0001002", "0012001")])
    manifest = reidray.read_manifest(str(tmp_path))
    assert (manifest.layout, manifest.table["person"].to_pylist()) == ("ilids", [1, 1, 12])
    write_images(tmp_path, ["Persons/0000001.jpg"])
    manifest = reidray.read_manifest(str(tmp_path))
    assert manifest.person_ids == {"person_0000": 1, "person_0001": 2, "person_0012": 3}


def test_ilids_vid_is_read_as_cameras_and_the_error_names_its_folders(tmp_path):
    paths = [
        f"{kind}/cam{camera}/person{person:03d}/cam{camera}_person{person:03d}.png"
        for kind in ("images", "sequences")
        for camera in (1, 2)
        for person in (1, 2)
    ]
    write_images(tmp_path, paths)
    manifest = reidray.read_manifest(str(tmp_path / "images"))
    assert manifest.layout == "cameras"
    assert manifest.summary["train"]["people"] == manifest.summary["train"]["cameras"] == 2
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/images` (layout cameras)")):
        reidray.read_manifest(str(tmp_path))


def wildlife(root, header, *rows):
    paths = [row.split(",")[1] for row in rows]
    write_images(root, [path for path in paths if path and "absent" not in path])
    (root / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(root)


def test_animals_are_named_and_test_images_become_queries_and_gallery(tmp_path):
    data = wildlife(
        tmp_path,
        "identity,path,species,split",
        "lynx_2,images/lynx/a.jpg,lynx,train",
        "Ola,images/b.jpg,seal,train",
        "unknown,images/c.jpg,seal,train",
        "zed,images/d.jpg,seal,test",
        "zed,images/e.jpg,seal,test",
        "alone,images/f.jpg,seal,test",
        "zed,images/absent.jpg,seal,test",
    )
    manifest = reidray.read_manifest(data)
    assert manifest.layout == "wildlife"
    assert manifest.person_ids == {"Ola": 1, "alone": 2, "lynx_2": 3, "zed": 4}
    rows = {row["path"][-5:]: row for row in manifest.table.to_pylist()}
    assert [rows[f"{each}.jpg"]["split"] for each in "abcdef"] == [
        *("train", "train", "train", "query", "gallery", "gallery"),
    ]
    assert rows["c.jpg"]["person"] is None
    assert any("not there: 1" in note for note in manifest.notes)


def test_animals_without_splits_train_and_numbers_from_0_are_names(tmp_path):
    data = wildlife(tmp_path, "identity,path", "0,a.jpg", "1,b.jpg", "1,c.jpg")
    manifest = reidray.read_manifest(data)
    assert manifest.person_ids == {"identity_0": 1, "identity_1": 2}
    assert set(manifest.table["split"].to_pylist()) == {"train"}


def test_a_wrong_table_of_animals_is_refused(tmp_path):
    data = wildlife(tmp_path / "a", "identity,path,split", "x,a.jpg,holdout")
    with pytest.raises(UserError, match=r"row 1: split is 'holdout', expected one of train"):
        reidray.read_manifest(data)
    with pytest.raises(UserError, match=r"row 2: has no path"):
        reidray.read_manifest(wildlife(tmp_path / "b", "identity,path", "x,a.jpg", "y,"))
    write_images(tmp_path / "c", ["a.jpg"])
    (tmp_path / "c" / "metadata.csv").write_text("identity,path\n")
    with pytest.raises(UserError, match="has no rows"):
        reidray.read_manifest(str(tmp_path / "c"))


def test_people_and_animals_train_together_under_their_own_names(tmp_path):
    animals = wildlife(tmp_path / "animals", "identity,path", "1,a.jpg", "x,b.jpg")
    vehicles = vehicle_id(tmp_path / "vehicles", LISTS)
    joined = reidray.read_manifest([animals, vehicles], ["wildlife", "vehicleid"])
    assert list(joined.person_ids)[:3] == ["animals/1", "animals/x", "vehicles/1"]
