import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.paths import DATA
from support.tiny_images import tiny_jpeg, write_images

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.images.decoding import decode_files
from reidray.data.layouts import LAYOUTS, read_manifest
from reidray.data.reading.annotations import write_annotations
from reidray.errors import UserError
from reidray.storage.location import Location

PLAIN = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)


def rows(manifest, *columns):
    return [tuple(row[c] for c in columns) for row in manifest.table.to_pylist()]


def facts(manifest):
    return rows(manifest, "path", "split", "person", "camera")


def read(root, layout="auto", **options):
    return read_manifest(str(root), layout, **options)


def trento(root, annotated=("2", "7")):
    write_images(
        root,
        [
            "train/0002_c1_016620005.jpg",
            "train/0007_c3_010187163.jpg",
            "test/000000.jpg",
            "queries/000000.jpg",
            "truth/other.jpg",
        ],
    )
    data = write_annotations((person, PLAIN | {"age": 3}) for person in annotated)
    (root / "annotations_train.csv").write_bytes(data)
    return root


def test_market1501_knows_people_cameras_junk_and_distractors(tmp_path):
    write_images(
        tmp_path,
        [
            "bounding_box_train/0002_c1s1_000451_03.jpg",
            "bounding_box_test/-1_c1s1_000401_03.jpg",
            "bounding_box_test/0000_c6s3_077392_02.jpg",
            "bounding_box_test/0003_c12s1_000001_01.jpg",
            "query/0003_c2s1_000001_00.jpg",
        ],
    )
    (tmp_path / "bounding_box_train" / "Thumbs.db").write_bytes(b"x")
    manifest = read(tmp_path)
    assert manifest.layout == "market1501"
    assert facts(manifest) == [
        ("bounding_box_test/-1_c1s1_000401_03.jpg", "gallery", -1, 1),
        ("bounding_box_test/0000_c6s3_077392_02.jpg", "gallery", 0, 6),
        ("bounding_box_test/0003_c12s1_000001_01.jpg", "gallery", 3, 12),
        ("bounding_box_train/0002_c1s1_000451_03.jpg", "train", 2, 1),
        ("query/0003_c2s1_000001_00.jpg", "query", 3, 2),
    ]
    assert manifest.schema.attributes == ()
    assert manifest.notes == ()


def test_market1501_takes_attributes_that_lie_beside_it(tmp_path):
    write_images(tmp_path, ["bounding_box_train/0002_c1s1_000451_03.jpg"])
    (tmp_path / "annotations_train.csv").write_bytes(write_annotations([("2", PLAIN)]))
    assert rows(read(tmp_path), "attr_age", "attr_gender") == [(0, 0)]


def test_trento_annotates_train_and_leaves_test_and_queries_unknown(tmp_path):
    manifest = read(trento(tmp_path))
    assert manifest.layout == "trento"
    assert manifest.schema == PEDESTRIAN_SCHEMA
    assert rows(manifest, "path", "split", "person", "camera", "attr_age", "attr_hat") == [
        ("queries/000000.jpg", "query", None, None, -1, -1),
        ("test/000000.jpg", "gallery", None, None, -1, -1),
        ("train/0002_c1_016620005.jpg", "train", 2, 1, 3, 0),
        ("train/0007_c3_010187163.jpg", "train", 7, 3, 3, 0),
    ]
    assert manifest.notes == ("folders skipped: truth/",)


@pytest.mark.parametrize(
    ("annotated", "note"),
    [
        (["2"], "people without annotation: 1 (the first is person 7)"),
        (["2", "7", "99", "50"], "annotated people without images: 2 (the first is person 50)"),
    ],
)
def test_annotations_that_do_not_fit_are_counted_or_refused(tmp_path, annotated, note):
    manifest = read(trento(tmp_path, annotated))
    assert note in manifest.notes[0]
    assert manifest.notes[1:] == ("folders skipped: truth/",)
    if "7" not in annotated:
        assert rows(manifest, "attr_age")[-1] == (-1,)
    with pytest.raises(UserError, match=re.escape(note)):
        read(tmp_path, strict=True)


@pytest.mark.parametrize(
    ("annotated", "message"),
    [(["a.jpg"], "'a.jpg' is not a person's number"), (["2", "0002"], "person 2 has two rows")],
)
def test_annotations_without_id_or_with_a_repeated_id_are_refused(tmp_path, annotated, message):
    with pytest.raises(UserError, match=message):
        read(trento(tmp_path, annotated))


def test_names_of_another_form_are_counted_or_refused(tmp_path):
    write_images(tmp_path, ["train/0002_c1_016620005.jpg", "train/holiday photo.jpg"])
    manifest = read(tmp_path)
    assert manifest.table.num_rows == 1
    assert "left out: 1 (the first is 'train/holiday photo.jpg')" in manifest.notes[0]
    with pytest.raises(UserError, match="holiday photo"):
        read(tmp_path, strict=True)
    (tmp_path / "train" / "0002_c1_016620005.jpg").unlink()
    with pytest.raises(UserError, match="expected names such as"):
        read(tmp_path)


def test_qut_has_training_gallery_and_probe(tmp_path):
    write_images(
        tmp_path,
        [
            "Training/0001_c1s1_001051_00.jpg",
            "Testing/Gallery/1200_c1s5_037566_00.jpg",
            "Testing/Probe/1200_c3s3_064744_00.jpg",
        ],
    )
    manifest = read(tmp_path)
    assert manifest.layout == "qut"
    assert facts(manifest) == [
        ("Testing/Gallery/1200_c1s5_037566_00.jpg", "gallery", 1200, 1),
        ("Testing/Probe/1200_c3s3_064744_00.jpg", "query", 1200, 3),
        ("Training/0001_c1s1_001051_00.jpg", "train", 1, 1),
    ]


def test_folders_with_numbers_are_people_with_those_numbers(tmp_path):
    write_images(tmp_path, ["0012/a.jpg", "0003/b_c4s1.jpg", "-1/c.jpg"])
    manifest = read(tmp_path)
    assert manifest.layout == "folders"
    assert facts(manifest) == [
        ("-1/c.jpg", "train", -1, None),
        ("0003/b_c4s1.jpg", "train", 3, 4),
        ("0012/a.jpg", "train", 12, None),
    ]


def test_folders_with_names_are_numbered_alike_in_every_split(tmp_path):
    write_images(
        tmp_path,
        ["train/Zoe/a.jpg", "train/Ann B, Jr/b.jpg", "query/Kim/c.jpg", "gallery/Kim/d.jpg"],
    )
    assert rows(read(tmp_path), "path", "split", "person") == [
        ("gallery/Kim/d.jpg", "gallery", 2),
        ("query/Kim/c.jpg", "query", 2),
        ("train/Ann B, Jr/b.jpg", "train", 1),
        ("train/Zoe/a.jpg", "train", 3),
    ]


def test_a_person_in_the_folders_of_train_and_val_is_refused(tmp_path):
    write_images(tmp_path, ["train/0001/a.jpg", "train/0002/b.jpg", "val/0002/c.jpg"])
    write_images(tmp_path, ["val/0003/d.jpg"])
    with pytest.raises(UserError, match=r"val/0002/c\.jpg.*person 2 is in both"):
        read(tmp_path)


def test_folders_of_one_number_are_refused(tmp_path):
    write_images(tmp_path, ["1/a.jpg", "01/b.jpg"])
    with pytest.raises(UserError, match="persons '01' and '1' are the same number"):
        read(tmp_path)


def test_images_outside_a_persons_folder_are_counted(tmp_path):
    write_images(tmp_path, ["train/0001/a.jpg", "train/stray.jpg", "other/0002/b.jpg"])
    manifest = read(tmp_path, "folders")
    assert rows(manifest, "path") == [("train/0001/a.jpg",)]
    assert "left out: 1 (the first is 'train/stray.jpg')" in manifest.notes[0]
    assert manifest.notes[1:] == ("folders skipped: other/",)
    with pytest.raises(UserError, match="left out: 1"):
        read(tmp_path, "folders", strict=True)


def msmt17(root, folders=("train", "test")):
    train, test = folders
    images = {
        "train": [
            "0000/0000_000_01_0303morning_0015_0.jpg",
            "0001/0001_005_14_0303noon_0015_1.jpg",
        ],
        "val": ["0001/0001_006_02_0303noon_0016_1.jpg"],
        "query": ["0000/0000_000_07_0303morning_0001_0.jpg"],
        "gallery": ["0000/0000_001_02_0113noon_0002_1.jpg"],
    }
    for name, paths in images.items():
        folder = train if name in ("train", "val") else test
        write_images(root, [f"{folder}/{path}" for path in paths])
        lines = [f"{path} {int(path[:4])}" for path in paths]
        (root / f"list_{name}.txt").write_text("\r\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_keeps_the_people_of_train_and_test_apart(tmp_path, folders):
    manifest = read(msmt17(tmp_path, folders))
    assert manifest.layout == "msmt17"
    assert sorted(rows(manifest, "split", "person", "camera")) == [
        ("gallery", 3, 2),
        ("query", 3, 7),
        ("train", 1, 1),
        ("train", 2, 14),
    ]


def test_msmt17_leaves_its_validation_images_of_training_people_out_of_training(tmp_path):
    (note,) = read(msmt17(tmp_path)).notes
    assert note.endswith("all of people in train, left out of training and validation: 1")
    (tmp_path / "list_val.txt").write_text("0007/0007_006_02_0303noon_0016_1.jpg 7\n")
    write_images(tmp_path, ["train/0007/0007_006_02_0303noon_0016_1.jpg"])
    assert ("val", 8, 2) in rows(read(tmp_path), "split", "person", "camera")


def test_msmt17_counts_images_in_no_list_and_other_files(tmp_path):
    write_images(msmt17(tmp_path), ["train/0009/0009_000_01_0303noon_0016_1.jpg"])
    (tmp_path / "train" / "notes.txt").write_text("x")
    notes = read(tmp_path).notes
    assert notes[:2] == (
        "skipped: 1 .txt",
        "images in no list: 1 (the first is 'train/0009/0009_000_01_0303noon_0016_1.jpg')",
    )


def test_msmt17_counts_listed_images_that_do_not_exist(tmp_path):
    gone = msmt17(tmp_path) / "train/0001/0001_005_14_0303noon_0015_1.jpg"
    gone.unlink()
    assert any("not there: 1" in note for note in read(tmp_path).notes)
    with pytest.raises(UserError, match="0001_005_14"):
        read(tmp_path, strict=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_000_01_a.jpg", "line 1: .* is not a path and a label"),
        ("0000/0000.jpg 0", "is not a path and a label"),
        ("../../0000_000_01_a.jpg 0", "is not a path within the root"),
    ],
)
def test_msmt17_refuses_a_line_of_another_form(tmp_path, line, message):
    (msmt17(tmp_path) / "list_train.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def pets(root):
    names = ["Abyssinian_1", "Abyssinian_2", "english_setter_9", "pug_3"]
    write_images(root, [f"images/{name}.jpg" for name in [*names, "pug_77"]])
    write_images(root, [f"annotations/trimaps/{name}.png" for name in [*names[:3], "pug_77"]])
    write_images(root, ["annotations/trimaps/._pug_3.png"])
    lines = "# comment\nAbyssinian_1 1 1 1\nenglish_setter_9 13 2 5\ngone_1 20 1 1\n"
    (root / "annotations/trainval.txt").write_text(lines)
    (root / "annotations/test.txt").write_text("Abyssinian_2 1 1 1\npug_3 27 2 20\n")
    return root


def test_pets_have_labels_and_masks_and_count_images_without_a_mask(tmp_path):
    manifest = read(pets(tmp_path))
    assert manifest.layout == "pets"
    assert manifest.classes == ("Abyssinian", "english_setter")
    assert rows(manifest, "path", "split", "person", "label", "mask_path") == [
        ("images/Abyssinian_1.jpg", "train", None, 0, "annotations/trimaps/Abyssinian_1.png"),
        ("images/Abyssinian_2.jpg", "gallery", None, 0, "annotations/trimaps/Abyssinian_2.png"),
        (
            "images/english_setter_9.jpg",
            "train",
            None,
            1,
            "annotations/trimaps/english_setter_9.png",
        ),
    ]
    for note, name in zip(manifest.notes, ("gone_1", "pug_3", "pug_77"), strict=True):
        assert f"left out: 1 (the first is '{name}')" in note
    with pytest.raises(UserError, match=r"gone_1.*pug_3.*pug_77"):
        read(tmp_path, strict=True)


def test_files_among_the_pets_that_are_no_images_are_counted(tmp_path):
    (pets(tmp_path) / "images" / "Abyssinian_1.mat").write_bytes(b"x")
    assert "images/: skipped: 1 .mat" in read(tmp_path).notes


def test_pets_in_both_lists_are_refused(tmp_path):
    (pets(tmp_path) / "annotations/test.txt").write_text("Abyssinian_1 1 1 1\n")
    with pytest.raises(UserError, match=r"images/Abyssinian_1\.jpg.* is in row"):
        read(tmp_path)


def csv_set(root, text, name="manifest.csv"):
    write_images(root, ["crops/a, b.jpg", "crops/c.jpg", "d.jpg"])
    (root / name).write_text(text)
    return root


def test_a_csv_file_of_a_team_is_a_layout(tmp_path):
    csv_set(
        tmp_path,
        "path,split,person,camera,attr_age,attr_shoes,label,frame\n"
        '"crops/a, b.jpg",train,0007,3,adult,red,pug,9\n'
        "d.jpg,gallery,,,,blue,beagle,10\n"
        "./crops/c.jpg,query,-1,2,young,,pug,11\n",
    )
    manifest = read(tmp_path)
    columns = ("path", "split", "person", "camera", "attr_age", "attr_shoes", "label")
    assert manifest.layout == "manifest"
    assert rows(manifest, *columns) == [
        ("crops/a, b.jpg", "train", 7, 3, 2, 1, 1),
        ("crops/c.jpg", "query", -1, 2, 0, -1, 1),
        ("d.jpg", "gallery", None, None, -1, 0, 0),
    ]
    assert manifest.classes == ("beagle", "pug")
    assert [a.values for a in manifest.schema.attributes][1] == ("blue", "red")
    assert "'frame'" in manifest.notes[0]


def test_a_manifest_file_may_have_any_name_and_be_parquet(tmp_path):
    csv_set(tmp_path, "path,split\nd.jpg,train\n", "spring.csv")
    assert rows(read(tmp_path / "spring.csv"), "path") == [("d.jpg",)]
    table = pa.table(
        {
            "path": pa.array(["d.jpg", "crops/c.jpg"]).dictionary_encode(),
            "split": ["train", "query"],
            "attr_hat": pa.array([1, None], pa.int64()),
            "attr_shoes": pa.array([0, 2], pa.int64()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "spring.parquet")
    manifest = read(tmp_path / "spring.parquet")
    assert rows(manifest, "path", "attr_hat", "attr_shoes") == [
        ("crops/c.jpg", -1, 2),
        ("d.jpg", 1, 0),
    ]
    assert manifest.root == str(tmp_path)
    assert [a.values for a in manifest.schema.attributes] == [("no", "yes"), ("0", "1", "2")]


def test_a_manifest_may_hold_unknown_labels_attributes_and_masks(tmp_path):
    text = "path,split,label,mask_path,attr_hat\nd.jpg,train,pug,d.png,no\ncrops/c.jpg,val,,,\n"
    manifest = read(csv_set(tmp_path, text))
    assert manifest.classes == ("pug",)
    assert rows(manifest, "path", "label", "mask_path", "attr_hat") == [
        ("crops/c.jpg", None, None, -1),
        ("d.jpg", 0, "d.png", 0),
    ]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_of_a_spreadsheet_in_another_language_is_a_layout(tmp_path, mark):
    rows = "path,split,person,camera\na/1.jpg,train,anna,c1\n2.jpg,train,ben,c2\n"
    write_images(tmp_path, ["a/1.jpg", "2.jpg"])
    text = rows.replace(",", mark).replace("\n", "\r\n")
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    manifest = read_manifest(str(tmp_path))
    assert manifest.table["path"].to_pylist() == ["2.jpg", "a/1.jpg"]
    assert manifest.person_ids == {"anna": 1, "ben": 2}
    for name in ("anna", "ben"):
        write_images(tmp_path / "people", [f"{name}/1.jpg"])
    (tmp_path / "manifest.csv").rename(tmp_path / "people/spring.csv")
    with pytest.raises(UserError, match=r"spring\.csv has the columns of a manifest"):
        read_manifest(str(tmp_path / "people"))


def test_labels_may_be_floats_of_16_bits(tmp_path):
    write_images(tmp_path, ["1.jpg", "2.jpg"])
    labels = pa.array(np.array([1, 2], np.float16))
    columns = {"path": ["1.jpg", "2.jpg"], "split": ["train", "train"], "label": labels}
    pa.parquet.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    assert read_manifest(str(tmp_path)).classes == ("1", "2")


def test_listed_images_that_do_not_exist_are_counted(tmp_path):
    csv_set(tmp_path, "path,split\nd.jpg,train\ncrops/gone.jpg,train\nnowhere/x.jpg,train\n")
    assert "not there: 2" in read(tmp_path).notes[0]
    with pytest.raises(UserError, match="not there: 2"):
        read(tmp_path, strict=True)
    csv_set(tmp_path, "path,split\nnowhere/x.jpg,train\n")
    with pytest.raises(UserError, match="not there: 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("path,split\n", "no images"),
        ("image,person\nd.jpg,1\n", "columns missing: path, split; found 'image', 'person'"),
        ("path,split,split\nd.jpg,train,val\n", "'split' occurs twice"),
        ("path,split\nd.jpg,test\n", "split is 'test', expected one of train, val, query, gallery"),
        ("path,split\nd.jpg\n", "cannot be read as a table"),
        ("path,split\n../d.jpg,train\n", "'../d.jpg' lies outside"),
        (
            "path,split\nhttps://x.org/d.jpg,train\n",
            "row 1: path 'https://x.org/d.jpg' is an address",
        ),
        ("path,split\na\\d.jpg,train\n", "with / in place of each backslash"),
        ("path,split\n/etc/passwd,train\n", "'/etc/passwd' lies outside"),
        ("path,split\nd.jpg,train\nd.jpg,val\n", "row 2 ('d.jpg'): the path is in row 1"),
        ("path,split,person\nd.jpg,train,1.5\n", "manifest.csv, row 1: person is 1.5, which"),
        (
            "path,split,person\nd.jpg,train,\nb.jpg,train,2.0231105123456784e+16\n",
            "manifest.csv, row 2: person is 2.0231105123456784e+16, which",
        ),
        (
            "path,split,person\nd.jpg,train,007\nb.jpg,val,7\n",
            "manifest.csv: persons '007' and '7' are the same number",
        ),
        ("path,split,attr_shoes\nd.jpg,train,red\n", "attr_shoes has one value only"),
        (
            "path,split,attr_hat\na.jpg,train,1\nd.jpg,train,2\n",
            "manifest.csv, row 2: attr_hat is 2, expected a code from -1 to 1",
        ),
        (
            "path,split,attr_hat\na.jpg,train,yes\nd.jpg,train,maybe\n",
            "manifest.csv, row 2: attr_hat is 'maybe', expected one of no, yes",
        ),
        ("path,split,attr_shoes\nd.jpg,train,128\n", "manifest.csv, row 1: attr_shoes is 128"),
        ("path,split,label\nd.jpg,train,-3\n", "manifest.csv, row 1: label is -3, expected a code"),
        (
            "path,split,label\na.jpg,train,0\nd.jpg,train,2000000000\n",
            "manifest.csv, row 2: label is 2000000000, expected a code from 0 to 32767",
        ),
        ("path,split,label\nd.jpg,train,0.5\n", "manifest.csv, row 1: label is 0.5, expected"),
        ("path,split,mask_path\nd.jpg,train,../d.png\n", "mask_path '../d.png' lies outside"),
    ],
)
def test_a_wrong_manifest_file_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read(csv_set(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_manifest_that_names_a_link_out_of_its_folder_does_not_get_the_image(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(tiny_jpeg())
    root = csv_set(tmp_path / "set", "path,split\ncrops/out.jpg,train\n")
    (root / "crops/out.jpg").symlink_to(tmp_path / "secret.jpg")
    paths = read(root).table["path"].to_pylist()
    (bad,) = decode_files(Location(str(root)), paths, (16, 8)).bad
    assert (bad.path, bad.reason) == (
        "crops/out.jpg",
        "a link that leaves the folder: see `follow_links`",
    )


def test_a_file_that_is_parquet_by_name_only_is_refused(tmp_path):
    csv_set(tmp_path, "path,split\nd.jpg,train\n", "manifest.parquet")
    with pytest.raises(UserError, match=r"manifest\.parquet: cannot be read as a table"):
        read(tmp_path)


def test_a_layout_of_another_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'market' is not known, expected auto, .*market1501"):
        read(tmp_path, "market")


@pytest.mark.parametrize("layout", ["auto", *LAYOUTS])
def test_a_missing_or_empty_folder_and_a_file_are_named(tmp_path, layout):
    with pytest.raises(UserError, match="gone: no such folder"):
        read(tmp_path / "gone", layout)
    with pytest.raises(UserError, match="the folder is empty"):
        read(tmp_path, layout)
    (tmp_path / "photo.jpg").write_bytes(tiny_jpeg())
    with pytest.raises(UserError, match=r"photo\.jpg: is a file, expected a folder"):
        read(tmp_path / "photo.jpg", layout)


def test_the_error_of_an_unknown_layout_lists_expected_and_found_files(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "photo.jpg").write_bytes(tiny_jpeg())
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert all(f"{layout}: " in str(error.value) for layout in LAYOUTS)
    assert "bounding_box_train/" in str(error.value)
    assert str(error.value).endswith("found photo.jpg, src/")
    with pytest.raises(
        UserError, match=r"looked for qut: Training/.*found photo\.jpg, src/"
    ) as one:
        read(tmp_path, "qut")
    assert "bounding_box_train" not in str(one.value)


@pytest.mark.parametrize("broken", ["train", "test", "queries"])
def test_a_folder_of_the_layout_without_images_is_named(tmp_path, broken):
    for file in (trento(tmp_path) / broken).iterdir():
        file.unlink()
    with pytest.raises(UserError, match=rf"{broken}: holds no images"):
        read(tmp_path, "trento")


def test_the_real_market_of_trento():
    folder = DATA / "market-trento"
    if not folder.exists():
        pytest.skip("needs the real Market-1501 crops")
    manifest = read(folder, strict=True)
    assert manifest.layout == "trento"
    assert Counter(manifest.table["split"].to_pylist()) == {
        "train": 12_989,
        "gallery": 19_679,
        "query": 2_248,
    }
    assert len(set(manifest.split("train")["person"].to_pylist())) == 751


def test_the_real_market_of_qut():
    folder = DATA / "market-qut"
    if not folder.exists():
        pytest.skip("needs the real Market-1501 crops")
    manifest = read(folder, strict=True)
    assert manifest.layout == "qut"
    counts = [manifest.split(split).num_rows for split in ("train", "gallery", "query")]
    assert counts == [5_933, 301, 301]
    assert len(set(manifest.split("train")["person"].to_pylist())) == 300


def test_the_real_pets():
    folder = DATA / "pets-mini"
    if not folder.exists():
        pytest.skip("needs the real Oxford-IIIT Pets images")
    manifest = read(folder)
    assert manifest.classes == ("Abyssinian", "american_bulldog", "Bengal")
    assert manifest.table.num_rows > 550
    assert manifest.notes
    assert all((folder / path).is_file() for path in manifest.table["mask_path"].to_pylist())
