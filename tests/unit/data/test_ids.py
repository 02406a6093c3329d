import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_images import write_images

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.ids import (
    id_name_files,
    nontrivial_names,
    number_camera_ids,
    number_person_ids,
    parse_id_number,
)
from reidray.data.layouts import read_manifest
from reidray.data.reading.annotations import write_annotations
from reidray.errors import UserError

LONG = "2023110512345678901"


def people_of(root, layout="auto"):
    """Return the person of each image by its folder or file, and the manifest."""
    manifest = read_manifest(str(root), layout)
    paths, people = (manifest.table[name].to_pylist() for name in ("path", "person"))
    return dict(zip(paths, people, strict=True)), manifest


@given(
    st.sets(
        st.text("0123456789_-. aé\u0661\u0662", min_size=1) | st.integers().map(str), min_size=1
    )
)
def test_two_people_are_never_merged(names):
    try:
        numbers = number_person_ids(names, "data")
    except UserError:
        values = [parse_id_number(name) for name in names]
        assert len({v for v in values if v}) < len([v for v in values if v])
        return
    people = {name: number for name, number in numbers.items() if number > 0}
    assert len(set(people.values())) == len(people)
    assert all(0 < number < 2**63 for number in people.values())
    assert {name for name, n in numbers.items() if n < 0} <= {"-1"}
    assert all(set(name) == {"0"} for name, n in numbers.items() if n == 0)


@pytest.mark.parametrize(
    "name",
    ["1_1", "0_0", "\u0661", " 1", "1 ", "+1", "-2", "--1", "1.0", "1e3", "9" * 19, "9" * 20, ""],
)
def test_only_digits_and_minus_one_within_64_bits_are_numbers(name):
    assert parse_id_number(name) is None


@pytest.mark.parametrize(
    ("name", "number"), [("0", 0), ("0000", 0), ("-1", -1), ("0" * 30 + "7", 7), (LONG, int(LONG))]
)
def test_numbers_are_parsed(name, number):
    assert parse_id_number(name) == number


@pytest.mark.parametrize("names", [["007", "7"], ["007", "7", "anna"], ["1", "01", "20" * 10]])
def test_two_names_of_one_number_are_refused(names):
    with pytest.raises(UserError, match=r"data: persons .* are the same number"):
        number_person_ids(names, "data")


@pytest.mark.parametrize(
    "names",
    [
        ["20231105123456789011", "20231105123456789012"],
        ["11_1", "1_11"],
        ["1_2", "12", "3"],
        ["1", "2", "0_0"],
        ["\u0661", "\u0662", "3"],
        [" 1", "2"],
        ["-2", "-3"],
        ["20231105123456789011", "bob"],
    ],
)
def test_folders_that_are_no_numbers_are_names_and_are_never_merged(tmp_path, names):
    write_images(tmp_path, [f"{name}/{n}.jpg" for name in names for n in range(2)])
    people, manifest = people_of(tmp_path)
    assert sorted(set(people.values())) == list(range(1, len(names) + 1))
    assert manifest.person_ids == {name: people[f"{name}/0.jpg"] for name in names}
    assert any(f"{len(names)} names, numbered from 1" in note for note in manifest.notes)
    (text,) = id_name_files(manifest.person_ids, manifest.camera_ids).values()
    assert json.loads(text) == manifest.person_ids


def test_folders_that_are_numbers_stay_and_need_no_file(tmp_path):
    write_images(tmp_path, ["0002/a.jpg", f"{LONG}/a.jpg"])
    people, manifest = people_of(tmp_path)
    assert people == {"0002/a.jpg": 2, f"{LONG}/a.jpg": int(LONG)}
    assert id_name_files(manifest.person_ids, manifest.camera_ids) == {}


def test_junk_and_distractors_beside_names_stay_what_they_are(tmp_path):
    write_images(tmp_path, [f"{name}/a.jpg" for name in ("-1", "0000", "anna", "ben")])
    people, manifest = people_of(tmp_path)
    assert people == {"-1/a.jpg": -1, "0000/a.jpg": 0, "anna/a.jpg": 1, "ben/a.jpg": 2}
    assert [note for note in manifest.notes if "beside names" in note] == [
        "person '-1' beside names: counts as junk",
        "person '0000' beside names: counts as distractors",
    ]


def test_names_of_market_files_may_be_long_numbers_or_names(tmp_path):
    names = ["20231105123456789011_c1_1.jpg", "anna_c2s1_3.jpg", "1_2_c3_1.jpg"]
    write_images(tmp_path, [f"bounding_box_train/{name}" for name in names])
    people, manifest = people_of(tmp_path)
    assert len(set(people.values())) == 3
    assert set(manifest.person_ids) == {"20231105123456789011", "anna", "1_2"}
    assert manifest.table["camera"].to_pylist() == [3, 1, 2]


@pytest.mark.parametrize("camera", ["90000", "20231105123456789012", "70000"])
def test_cameras_beyond_16_bits_are_numbered_anew(tmp_path, camera):
    write_images(tmp_path, [f"0001/0001_c{camera}_1.jpg", "0001/0001_c5_1.jpg"])
    manifest = read_manifest(str(tmp_path))
    assert set(manifest.camera_ids) == {camera, "5"}
    assert sorted(manifest.table["camera"].to_pylist()) == [1, 2]
    assert "camera_ids.json" in id_name_files(manifest.person_ids, manifest.camera_ids)


def test_more_cameras_than_a_manifest_holds_are_refused():
    names = {str(n) for n in range(40_000)}
    with pytest.raises(UserError, match="data: names 40000 cameras, expected 32767 at most"):
        number_camera_ids(names, "data")


def table(folder, person, suffix, name="person"):
    """Return a manifest with one image for each value of a column."""
    paths = [f"{n}.jpg" for n in range(len(person))]
    write_images(folder, paths)
    columns = pa.table({"path": paths, "split": ["train"] * len(paths), name: person})
    if suffix == ".parquet":
        papq.write_table(columns, folder / "manifest.parquet")
    else:
        cells = ["" if value is None else str(value) for value in person]
        lines = [f"{path},train,{cell}" for path, cell in zip(paths, cells, strict=True)]
        (folder / "manifest.csv").write_text(f"path,split,{name}\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ([1.0, 2.0, float("nan")], [1, 2, None]),
        ([1, 2, None], [1, 2, None]),
        ([2**62, -1, 0], [2**62, -1, 0]),
        ([2.0**52, 7.0, 1.0], [2**52, 7, 1]),
        (["12", "7", "NA"], [12, 7, None]),
        (["anna", "ben", "anna"], [1, 2, 1]),
        (["20231105123456789011", "20231105123456789012", "nan"], [1, 2, None]),
        (["1_2", "12", "<NA>"], [2, 1, None]),
        (["12.0", "7.0", ""], [12, 7, None]),
    ],
)
def test_ids_of_a_table_are_read_exactly(tmp_path, suffix, written, read):
    people, _ = people_of(table(tmp_path, written, suffix))
    assert list(people.values()) == read


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("wrong", [float(20231105123456781), 1.5, float("inf"), 2.0**53])
def test_a_float_that_is_not_exact_is_refused_with_its_row(tmp_path, suffix, wrong):
    folder = table(tmp_path, [1.0, None, wrong], suffix)
    if wrong == float("inf") and suffix == ".csv":  # a name as good as any
        assert len(set(people_of(folder)[0].values())) == 3
        return
    with pytest.raises(UserError) as caught:
        read_manifest(str(folder))
    assert f"row 3: person is {wrong!r}, which is no whole number" in str(caught.value)


@pytest.mark.parametrize(("kind", "first"), [(pa.float32(), 2**24), (pa.float16(), 2**11)])
def test_ids_that_a_short_float_merges_are_refused(tmp_path, kind, first):
    ids = pa.array(np.array([first, first + 1, 7], kind.to_pandas_dtype()))
    with pytest.raises(UserError, match=f"row 1: person is {first}.0, which is no whole number"):
        read_manifest(str(table(tmp_path / "long", ids, ".parquet")))
    ids = pa.array(np.array([first - 1, 8, 7], kind.to_pandas_dtype()))
    people, _ = people_of(table(tmp_path / "short", ids, ".parquet"))
    assert sorted(people.values()) == [7, 8, first - 1]


@pytest.mark.parametrize("text", ["2.02311E+11", "2e+05", "1.0e5"])
def test_a_number_that_a_spreadsheet_shortened_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=re.escape(f"row 2: person is {text}, which may have lost")):
        read_manifest(str(table(tmp_path, ["7", text], ".csv")))


def test_one_name_in_two_forms_of_unicode_is_refused():
    assert number_person_ids(["Jos\u00e9", "Jose"], "data") == {"Jose": 1, "Jos\u00e9": 2}
    with pytest.raises(UserError, match=r"data: persons .* are one name, whose letters"):
        number_person_ids(["Jos\u00e9", "Jose\u0301", "12"], "data")


def test_an_unsigned_number_beyond_64_bits_is_a_name(tmp_path):
    column = pa.array(np.array([2**63 + 1, 2**63 + 2, 5], np.uint64))
    people, manifest = people_of(table(tmp_path, column, ".parquet"))
    assert sorted(people.values()) == [1, 2, 3]
    assert str(2**63 + 2) in manifest.person_ids


def test_cameras_of_a_table_may_have_names(tmp_path):
    manifest = read_manifest(str(table(tmp_path, ["door", "yard", ""], ".csv", "camera")))
    assert manifest.table["camera"].to_pylist() == [1, 2, None]
    assert manifest.camera_ids == {"door": 1, "yard": 2}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("missing", ["nan", "NA", "N/A", "null", "None", "", "NaN"])
@pytest.mark.parametrize("name", ["label", "attr_shoes"])
def test_texts_that_pandas_reads_as_missing_are_no_class(tmp_path, suffix, missing, name):
    manifest = read_manifest(str(table(tmp_path, ["cat", missing, "dog"], suffix, name)))
    unknown = None if name == "label" else -1
    assert manifest.table[name].to_pylist() == [0, unknown, 1]
    said = [note for note in manifest.notes if f"{name} is {missing!r}" in note]
    assert len(said) == (missing != "")


def test_labels_may_be_floats_with_gaps(tmp_path):
    manifest = read_manifest(str(table(tmp_path, [0.0, float("nan"), 1.0], ".parquet", "label")))
    assert manifest.table["label"].to_pylist() == [0, None, 1]


def test_labels_from_one_or_with_gaps_are_renumbered(tmp_path):
    manifest = read_manifest(str(table(tmp_path, [3, 1, None, 7, 1], ".csv", "label")))
    assert manifest.classes == ("1", "3", "7")
    assert manifest.table["label"].to_pylist() == [1, 0, None, 2, 0]


def test_annotations_find_people_by_name_and_never_by_a_rounded_number(tmp_path):
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    write_images(tmp_path, ["train/anna_c1_1.jpg", "train/20231105123456789011_c1_1.jpg"])
    (tmp_path / "annotations_train.csv").write_bytes(
        write_annotations([("anna", codes | {"age": 2}), ("20231105123456789012", codes)])
    )
    manifest = read_manifest(str(tmp_path), "trento")
    assert manifest.table["attr_age"].to_pylist() == [-1, 2]
    assert any("without images: 1 (the first is person 2023" in note for note in manifest.notes)


def test_a_name_among_numbers_keeps_the_annotations_of_the_others(tmp_path):
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    write_images(tmp_path, ["train/0002_c1_1.jpg", "train/0007_c1_1.jpg", "train/photo_c1.jpg"])
    ages = {"2": 1, "7": 2, "bob": 3, "99": 3}
    data = write_annotations((name, codes | {"age": age}) for name, age in ages.items())
    (tmp_path / "annotations_train.csv").write_bytes(data)
    manifest = read_manifest(str(tmp_path), "trento")
    assert any("annotated people without images: 2" in note for note in manifest.notes)
    assert manifest.table["attr_age"].to_pylist() == [1, 2, -1]


@pytest.mark.parametrize("identity", ["1_2", "nan", "20231105123456781.0", "\u0661\u0662"])
def test_an_annotated_id_that_is_no_number_is_refused_beside_numbers(tmp_path, identity):
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    write_images(tmp_path, ["train/0012_c1_1.jpg"])
    data = write_annotations([(identity, codes), ("7", codes)])
    (tmp_path / "annotations_train.csv").write_bytes(data)
    with pytest.raises(UserError, match=r"annotations_train.csv: id"):
        read_manifest(str(tmp_path), "trento")


def test_only_renumbered_ids_are_written():
    assert nontrivial_names({"0002": 2, "-1": -1}) == {}
    assert nontrivial_names({"anna": 2, "Zoe": 1}) == {"Zoe": 1, "anna": 2}
