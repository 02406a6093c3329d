"""Folders of splits, cameras and people are read, or refused with the reason."""

import logging
import os

import boto3
import pytest
from support.tiny_images import tiny_jpeg, write_images

from reidray.data.layouts import read_manifest
from reidray.errors import UserError
from reidray.storage.location import Location

PEOPLE = range(1, 7)


def read(root, layout="auto", **options):
    return read_manifest(str(root), layout, **options)


def facts(manifest):
    columns = ("path", "split", "person", "camera")
    return [tuple(row[c] for c in columns) for row in manifest.table.to_pylist()]


def counts(manifest, split):
    rows = [row for row in facts(manifest) if row[1] == split]
    return len(rows), len({row[2] for row in rows}), len({row[3] for row in rows} - {None})


def refusal(root, layout="auto"):
    with pytest.raises(UserError) as error:
        read(root, layout)
    assert "\n" not in str(error.value)
    return str(error.value)


def market_names(people=PEOPLE, cameras=(1, 2), form="{p:04d}_c{c}s1_00{c}1_00.jpg"):
    return [form.format(p=p, c=c) for p in people for c in cameras]


def fill(root, folder, names):
    return write_images(root, [f"{folder}/{name}" for name in names])


@pytest.mark.parametrize("gallery", ["gallery", "test"])
@pytest.mark.parametrize("form", ["{p:04d}_c{c}s1_0001_00.jpg", "{p:04d}_c{c:03d}_00030600_0.jpg"])
def test_flat_splits_of_names_with_people_are_read(tmp_path, gallery, form):
    fill(tmp_path, "train", market_names(form=form))
    fill(tmp_path, "val", market_names(range(11, 14), form=form))
    fill(tmp_path, "query", market_names(range(21, 26), form=form))
    fill(tmp_path, gallery, market_names(range(21, 26), form=form))
    manifest = read(tmp_path)
    assert manifest.layout == "flat_splits"
    assert manifest.notes == ()
    shares = {split: counts(manifest, split) for split in ("train", "val", "query", "gallery")}
    assert shares == {
        "train": (12, 6, 2),
        "val": (6, 3, 2),
        "query": (10, 5, 2),
        "gallery": (10, 5, 2),
    }


def test_flat_queries_may_be_anonymous_and_training_images_may_not(tmp_path):
    fill(tmp_path, "train", market_names())
    fill(tmp_path, "query", ["000.jpg"])
    fill(tmp_path, "gallery", ["000.jpg", "001.jpg"])
    manifest = read(tmp_path)
    assert facts(manifest)[:2] == [
        ("gallery/000.jpg", "gallery", None, None),
        ("gallery/001.jpg", "gallery", None, None),
    ]
    assert "query/: no file name names a person" in manifest.notes[0]
    fill(tmp_path / "celeb", "train", ["1_0_0.jpg"])
    fill(tmp_path / "celeb", "query", ["7_0_0.jpg"])
    assert "names without person and camera" in refusal(tmp_path / "celeb")


def test_one_folder_of_names_with_people_is_a_training_set(tmp_path):
    write_images(tmp_path, market_names())
    (tmp_path / "readme.txt").write_text("x")
    manifest = read(tmp_path)
    assert (manifest.layout, counts(manifest, "train")) == ("flat_splits", (12, 6, 2))
    assert manifest.notes == ("./: skipped: 1 .txt",)


def test_veri_is_read_and_its_folders_are_never_people(tmp_path):
    form = "{p:04d}_c{c:03d}_00030600_0.jpg"
    fill(tmp_path, "image_train", market_names(form=form))
    fill(tmp_path, "image_test", market_names(range(7, 11), form=form))
    fill(tmp_path, "image_query", market_names(range(7, 11), (1,), form=form))
    (tmp_path / "name_train.txt").write_text("x")
    manifest = read(tmp_path)
    assert manifest.layout == "veri"
    assert counts(manifest, "train") == (12, 6, 2)
    assert counts(manifest, "query") == (4, 4, 1)
    assert manifest.notes == ("files beside the folders skipped: 1 .txt",)
    assert "looks like veri" in refusal(tmp_path, "folders")


@pytest.mark.parametrize(
    "names",
    [
        market_names(form="{p:04d}_c{c}_f0044158.jpg"),
        market_names(form="{p:04d}_c{c}_1.png"),
        market_names(),
    ],
)
def test_data_sets_like_market1501_are_read_and_other_folders_are_named(tmp_path, names):
    for folder in ("bounding_box_train", "bounding_box_test", "query", "gt_bbox", "pytorch/train"):
        fill(tmp_path, folder, names)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "bounding_box_train" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "query" / "list.csv").write_bytes(b"x")
    manifest = read(tmp_path)
    assert manifest.layout == "market1501"
    assert counts(manifest, "train") == (12, 6, 2)
    assert manifest.notes[0] == "query/: skipped: 1 .csv"
    assert manifest.notes[-1] == "folders skipped: gt_bbox/, pytorch/"


def test_the_error_names_a_data_set_one_folder_below(tmp_path):
    outer = tmp_path / "outer"
    for part in ("bounding_box_train", "bounding_box_test", "query", "gt_bbox"):
        fill(outer, f"Market-1501-v15.09.15/{part}", market_names())
    for layout in ("auto", "folders"):
        assert f"give `data={outer}/Market-1501-v15.09.15" in refusal(outer, layout)
    cuhk = tmp_path / "cuhk03-np"
    for kind in ("detected", "labeled"):
        fill(cuhk, f"{kind}/bounding_box_train", market_names())
    for kind in ("detected", "labeled"):
        assert f"`data={cuhk}/{kind}" in refusal(cuhk)
    prid = tmp_path / "prid"
    fill(prid, "multi_shot/cam_a/person_0001", ["0001.png"])
    fill(prid, "multi_shot/cam_b/person_0001", ["0001.png"])
    assert f"give `data={prid}/multi_shot` (layout cameras)" in refusal(prid)


def test_images_that_layumi_copies_twice_are_read_once(tmp_path):
    for folder in ("train", "val", "train_all", "query", "gallery", "multi-query"):
        people = PEOPLE if "train" in folder or folder == "val" else range(7, 10)
        for person in people:
            fill(tmp_path, f"{folder}/{person:04d}", market_names([person]))
    fill(tmp_path, "gallery/-1", ["-1_c1s1_000401_03.jpg"])
    fill(tmp_path, "gallery/0000", ["0000_c1s1_000151_01.jpg"])
    manifest = read(tmp_path)
    assert manifest.layout == "folders"
    assert counts(manifest, "train") == (12, 6, 2)
    assert counts(manifest, "val") == (0, 0, 0)
    assert {row[2] for row in facts(manifest) if row[1] == "gallery"} == {-1, 0, 7, 8, 9}
    assert "train_all/ is read for train" in manifest.notes[0]
    assert manifest.notes[-1] == "folders skipped: multi-query/, train/, val/"


@pytest.mark.parametrize("val", ["val/{p:04d}/{n}", "val/{n}"])
def test_validation_images_of_training_people_alone_are_left_out_and_counted(tmp_path, val):
    flat = "{p" not in val
    for person in PEOPLE:
        for name in market_names([person]):
            write_images(tmp_path, [f"train/{name}" if flat else f"train/{person:04d}/{name}"])
        write_images(tmp_path, [val.format(p=person, n=f"{person:04d}_c3s1_1.jpg")])
    manifest = read(tmp_path)
    assert counts(manifest, "train") == (12, 6, 2)
    assert counts(manifest, "val") == (0, 0, 0)
    assert manifest.notes[0].endswith("left out of training and validation: 6")


@pytest.mark.parametrize(
    ("folder", "split"),
    [("test", "gallery"), ("validation", "val"), ("valid", "val"), ("Query", "query")],
)
def test_common_names_of_splits_are_known(tmp_path, folder, split):
    fill(tmp_path, "Train/anna", ["1.jpg"])
    fill(tmp_path, f"{folder}/ben", ["1.jpg"])
    assert [row[:2] for row in facts(read(tmp_path))] == sorted(
        [("Train/anna/1.jpg", "train"), (f"{folder}/ben/1.jpg", split)]
    )


@pytest.mark.parametrize(
    ("below", "cameras"),
    [
        (("cam1", "cam2"), 2),
        (("cam_a", "cam_b"), 2),
        (("c1", "c2"), 2),
        (("0001", "0002"), 0),
        (("tracklet_1", "tracklet_2"), 0),
        (("2024-05-01", "2024-05-02"), 0),
    ],
)
@pytest.mark.parametrize("layout", ["auto", "folders"])
def test_cameras_and_tracklets_may_lie_in_a_persons_folder(tmp_path, below, cameras, layout):
    for person in PEOPLE:
        for inner in below:
            fill(tmp_path, f"{person:04d}/{inner}", ["0000.png", "0001.png"])
    assert counts(read(tmp_path, layout), "train") == (24, 6, cameras)


@pytest.mark.parametrize(
    "name", ["0001_C1_F0001_X13180.jpg", "0001C1T0001F001.jpg", "0001_c1s1_000451_03.jpg"]
)
def test_cameras_of_tracklets_are_in_the_file_names(tmp_path, name):
    for person in PEOPLE:
        fill(tmp_path, f"train/{person:04d}/0001", [name])
    assert {row[3] for row in facts(read(tmp_path))} == {1}


def test_camera_folders_above_people_are_cameras(tmp_path):
    for camera in ("cam_a", "cam_b"):
        for person in (1, 2, 200, 201):
            fill(tmp_path / "prid", f"{camera}/person_{person:04d}", ["0001.png"])
            write_images(tmp_path / "single", [f"{camera}/person_{person:04d}.png"])
            write_images(tmp_path / "viper", [f"{camera}/{person - 1:03d}_45.bmp"])
            fill(
                tmp_path / "own", f"{camera.replace('_a', '1').replace('_b', '2')}/{person}", ["x"]
            )
    for name, people in (("prid", 5), ("single", 5), ("viper", 4), ("own", 4)):
        manifest = read(tmp_path / name)
        assert manifest.layout == "cameras"
        assert counts(manifest, "train") == (8, people, 2), name
        assert min(row[2] for row in facts(manifest)) == 1
    assert {row[3] for row in facts(read(tmp_path / "own"))} == {1, 2}


@pytest.mark.parametrize("folder", ["image", "crops", "images_detected", "cam_a"])
def test_folders_that_name_a_split_a_camera_or_a_kind_of_file_are_never_people(tmp_path, folder):
    fill(tmp_path, folder, ["1.jpg", "2.jpg"])
    (tmp_path / "labels.csv").write_text("file,id\n1.jpg,1\n")
    message = refusal(tmp_path)
    assert f"the people on the images in {folder}/" in message
    assert f"`data={tmp_path}/labels.csv" in message
    fill(tmp_path, "anna", ["1.jpg"])
    for layout in ("auto", "folders"):
        assert f"{folder}/ has the name of" in refusal(tmp_path, layout)


@pytest.mark.parametrize("split", ["val", "test", "query", "probe"])
def test_a_split_among_people_is_refused_with_both_readings(tmp_path, split):
    for folder in ("anna", "ben", split):
        fill(tmp_path, folder, ["1.jpg"])
    message = refusal(tmp_path)
    assert f"{split}/ has the name of a split" in message
    assert f"if {split}/ is a person too, rename it" in message


def test_a_table_with_the_columns_of_a_manifest_is_not_ignored(tmp_path):
    for person in PEOPLE:
        fill(tmp_path, f"{person}", ["1.jpg"])
    (tmp_path / "spring.csv").write_text('"path","split","person"\n1/1.jpg,train,7\n')
    message = refusal(tmp_path)
    assert f"`data={tmp_path}/spring.csv" in message
    assert "`layout=folders`" in message
    assert counts(read(tmp_path, "folders"), "train") == (6, 6, 0)
    assert read(tmp_path / "spring.csv").table["person"].to_pylist() == [7]


def test_folders_whose_file_names_have_several_people_are_ambiguous(tmp_path):
    fill(tmp_path, "spring", market_names())
    fill(tmp_path, "autumn", market_names(range(7, 10)))
    message = refusal(tmp_path)
    assert "autumn/ may be one person of 2, or hold several" in message
    assert counts(read(tmp_path, "folders"), "train") == (18, 2, 2)
    for person in PEOPLE:  # numbers of frames are no people
        fill(tmp_path / "frames", f"p{person}", [f"{n:06d}_c1.jpg" for n in range(5)])
    assert counts(read(tmp_path / "frames"), "train") == (30, 6, 1)


def test_folders_in_people_that_may_be_people_are_ambiguous(tmp_path):
    for site in ("north", "south"):
        for person in ("anna", "ben"):
            fill(tmp_path, f"{site}/{person}", ["1.jpg"])
    message = refusal(tmp_path)
    assert "anna/ in north/ may be a camera or tracklet of person 'north'" in message
    assert "`layout=folders`" in message
    assert f"`data={tmp_path}/north" in message
    assert counts(read(tmp_path, "folders"), "train") == (4, 2, 0)
    for camera in (1, 2, 3):
        for person in range(20):
            fill(tmp_path / "numbers", f"{camera}/{person:04d}", ["1.jpg"])
            fill(tmp_path / "short", f"c{camera}/{person:04d}", ["1.jpg"])
    assert "may be a camera or tracklet" in refusal(tmp_path / "numbers")
    assert "c1/ may be a camera or a person" in refusal(tmp_path / "short")


@pytest.mark.parametrize("shots", [("multi",), ("single",), ("multi", "single")])
def test_folders_above_cameras_of_several_people_are_no_people(tmp_path, shots):
    for camera in ("cam_a", "cam_b"):
        for person in PEOPLE:
            if "multi" in shots:
                fill(tmp_path, f"multi_shot/{camera}/person_{person:04d}", ["1.png", "2.png"])
            if "single" in shots:
                write_images(tmp_path, [f"single_shot/{camera}/person_{person:04d}.png"])
    assert f"`data={tmp_path}/{shots[0]}_shot" in refusal(tmp_path)
    for site in ("north", "south"):
        for camera in ("cam1", "cam2"):
            names = [f"person_{person:04d}.png" for person in PEOPLE]
            fill(tmp_path / "sites", f"{site}/{camera}", names)
    assert "north/ may be one person of 2, or hold several" in refusal(tmp_path / "sites")


def test_a_persons_images_may_lie_in_a_folder_of_that_name(tmp_path):
    for person in PEOPLE:
        fill(tmp_path, f"{person}/images", ["1.jpg"])
    assert counts(read(tmp_path), "train") == (6, 6, 0)


def test_people_numbered_from_0_keep_the_first(tmp_path):
    for person in range(4):
        fill(tmp_path, str(person), ["1.jpg"])
    assert counts(read(tmp_path), "train") == (4, 4, 0)
    assert {row[2] for row in facts(read(tmp_path))} == {1, 2, 3, 4}
    fill(tmp_path, "9", ["1.jpg"])
    assert {row[2] for row in facts(read(tmp_path))} == {0, 1, 2, 3, 9}
    for folder in ("train/1", "train/2", "query/3", "gallery/3", "gallery/0000"):
        fill(tmp_path / "distractors", folder, ["1.jpg"])
    assert {row[2] for row in facts(read(tmp_path / "distractors"))} == {0, 1, 2, 3}


def test_pets_are_recognised_by_their_lists_alone(tmp_path):
    fill(tmp_path, "images", ["1.jpg"])
    fill(tmp_path, "annotations", ["1.png"])
    assert "layout pets" not in refusal(tmp_path)


def test_the_layout_is_logged_with_counts_of_each_split(tmp_path, caplog):
    for folder in ("bounding_box_train", "query"):
        fill(tmp_path, folder, market_names())
    fill(tmp_path, "bounding_box_test", [*market_names(), "-1_c1s1_1.jpg", "0000_c3s1_1.jpg"])
    caplog.set_level(logging.INFO, "reidray")
    manifest = read(tmp_path)
    line = (
        "layout market1501: train 12 images (6 people, 2 cameras); query 12 images (6 people, "
        "2 cameras); gallery 14 images (6 people, 3 cameras, 1 distractor, 1 junk)"
    )
    assert f"{tmp_path}: {line}" in caplog.messages
    assert manifest.summary["gallery"] == {
        "images": 14,
        "people": 6,
        "cameras": 3,
        "distractors": 1,
        "junk": 1,
    }
    assert (manifest.summary["layout"], manifest.summary["root"]) == ("market1501", str(tmp_path))


def test_layouts_in_a_bucket_are_recognised_as_on_a_disk(bucket):
    root = Location(f"{bucket}/set")
    for person in PEOPLE:
        for camera in ("cam1", "cam2"):
            root.write_bytes(f"{person:04d}/{camera}/0001.png", tiny_jpeg())
    root.write_bytes("notes.txt", b"x")
    manifest = read_manifest(root.uri)
    assert counts(manifest, "train") == (12, 6, 2)
    assert manifest.notes == ("skipped: 1 .txt",)
    assert f"`data={bucket}/set" in refusal_of(bucket)
    for person in PEOPLE:
        put_key(f"{bucket}/keys/{person}//a.jpg")
        put_key(f"{bucket}/keys/{person}/./b.jpg")
    put_key(f"{bucket}/keys/./c.jpg")
    manifest = read_manifest(f"{bucket}/keys")
    assert counts(manifest, "train") == (12, 6, 0)
    assert "left out: 1 (the first is './c.jpg')" in manifest.notes[0]


def put_key(uri):
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    store.put_object(Bucket=bucket, Key=key, Body=tiny_jpeg())


def refusal_of(uri):
    with pytest.raises(UserError) as error:
        read_manifest(uri)
    return str(error.value)


def test_cameras_and_tracklets_of_a_person_may_lie_in_each_other(tmp_path):
    for person in PEOPLE:
        for camera in ("cam1", "cam2"):
            for day in ("2024-05-01", "2024-05-02"):
                fill(tmp_path / "inner", f"{person:04d}/{camera}/{day}", ["1.jpg"])
                fill(tmp_path / "outer", f"{person:04d}/{day}/{camera}", ["1.jpg"])
    for name in ("inner", "outer"):
        assert counts(read(tmp_path / name), "train") == (24, 6, 2)


def test_folders_of_people_in_one_group_only_are_ambiguous(tmp_path):
    for group, people in (("fold1", PEOPLE), ("fold2", range(7, 13))):
        for person in people:
            fill(tmp_path / "folds", f"{group}/{person:04d}", ["1.jpg"])
    assert "0001/ in fold1/ may be a camera or tracklet" in refusal(tmp_path / "folds")
    for day in range(1, 10):
        for person in (1, 2):
            fill(tmp_path / "days", f"2024-05-0{day}/{person:04d}", ["1.jpg"])
    assert "0001/ in 2024-05-01/ may be a camera or tracklet" in refusal(tmp_path / "days")


def test_folders_above_the_people_of_one_split_are_ambiguous(tmp_path):
    for person in range(1, 9):
        fill(tmp_path, f"train/{person:03d}", ["A_rgb001.jpg", "B_rgb001.jpg"])
    for clothes in ("A", "B"):
        for person in (11, 12):
            fill(tmp_path, f"test/{clothes}/{person:03d}", ["rgb001.jpg"])
    message = refusal(tmp_path)
    assert "011/ in A/ may be a camera or tracklet" in message
    assert f"`data={tmp_path}/test/A` " in message


def test_lists_of_msmt17_without_the_training_part_are_read(tmp_path):
    for file, camera in (("list_query.txt", 1), ("list_gallery.txt", 2)):
        names = [f"{p:04d}/{p:04d}_000_{camera:02d}_0303morning_0015_0.jpg" for p in range(3)]
        write_images(tmp_path, [f"test/{name}" for name in names])
        (tmp_path / file).write_text("".join(f"{name} {name[:4]}\n" for name in names))
    manifest = read(tmp_path)
    assert manifest.layout == "msmt17"
    assert counts(manifest, "query") == counts(manifest, "gallery") == (3, 3, 1)


def test_splits_in_a_test_folder_are_not_read_as_one_gallery(tmp_path):
    write_images(tmp_path, [f"train/{name}" for name in market_names()])
    for split in ("query", "gallery"):
        write_images(tmp_path, [f"test/{split}/{name}" for name in market_names(range(7, 10))])
    assert f"`data={tmp_path}/test` (layout flat_splits)" in refusal(tmp_path)


def test_prid_is_named_only_if_its_rule_applies(tmp_path):
    for camera in ("cam_a", "cam_b"):
        write_images(tmp_path / "viper", [f"{camera}/316_45.bmp", f"{camera}/001_0.bmp"])
        write_images(tmp_path / "prid", [f"{camera}/person_0201.png", f"{camera}/person_0001.png"])
    assert not any("PRID" in note for note in read(tmp_path / "viper").notes)
    assert any("PRID" in note for note in read(tmp_path / "prid").notes)


def test_msmt17_without_its_lists_is_refused(tmp_path):
    for split in ("train", "test"):
        for person in ("0000", "0001"):
            fill(tmp_path, f"{split}/{person}", [f"{person}_000_01_0303morning_0015_0.jpg"])
    for layout in ("auto", "folders"):
        assert "0000/ of train and of test are different people" in refusal(tmp_path, layout)
