import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import DATA

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import (
    ANNOTATION_COLUMNS,
    annotation_lines,
    decode_annotation_row,
    encode_annotation_row,
    read_annotations,
    write_annotations,
)
from reidray.errors import UserError

HEADER = (
    "id,age,backpack,bag,handbag,clothes,down,up,hair,hat,gender,"
    "upblack,upwhite,upred,uppurple,upyellow,upgray,upblue,upgreen,"
    "downblack,downwhite,downpink,downpurple,downyellow,downgray,downblue,downgreen,downbrown"
)
ROW = "474,2,1,1,1,1,2,2,2,1,2,1,2,1,1,1,1,1,1,1,2,1,1,1,1,1,1,1"
CODES = {
    "gender": 1,
    "hair": 1,
    "sleeve": 1,
    "lower_length": 1,
    "lower_type": 0,
    "hat": 0,
    "backpack": 0,
    "bag": 0,
    "handbag": 0,
    "upper_colour": 1,
    "lower_colour": 1,
    "age": 1,
}

codes = st.fixed_dictionaries(
    {a.name: st.integers(0, len(a.values) - 1) for a in PEDESTRIAN_SCHEMA.attributes}
)


def as_file(**changes):
    values = dict(zip(HEADER.split(","), ROW.split(","), strict=True)) | changes
    return f"{','.join(values)}\n{','.join(values.values())}\n".encode()


def test_the_documented_row_has_the_documented_meaning_and_form():
    assert ("id", *ANNOTATION_COLUMNS) == tuple(HEADER.split(","))
    assert read_annotations(f"{HEADER}\n{ROW}\n".encode(), "a.csv") == {"474": CODES}
    assert write_annotations([("474", CODES)]) == f"{HEADER}\n{ROW}\n".encode()


def test_a_row_of_minus_ones_is_unknown_and_one_with_a_value_is_refused():
    nothing = ",".join(["-1"] * 27)
    written = write_annotations([("a", None), ("b", CODES), ("c", None)])
    assert written.decode().splitlines()[1::2] == [f"a,{nothing}", f"c,{nothing}"]
    assert read_annotations(written, "a.csv") == {"b": CODES}
    assert read_annotations(written.replace(b"-1", b"-1.0"), "a.csv") == {"b": CODES}
    with pytest.raises(UserError, match=r"line 2 .*age is '-1'"):
        read_annotations(written.replace(b"-1\n", b"1\n"), "a.csv")


@given(codes)
def test_every_label_survives_encoding(code):
    values = map(str, encode_annotation_row(code))
    assert decode_annotation_row(dict(zip(ANNOTATION_COLUMNS, values, strict=True)), "row") == code


@settings(max_examples=15)
@given(st.dictionaries(st.from_regex(r"[a-z0-9][a-z, \"0-9]*\.jpg", fullmatch=True), codes))
def test_every_file_written_is_read_back_whatever_the_names(rows):
    assert read_annotations(write_annotations(rows.items()), "a.csv") == rows


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER},\n{ROW},\n",
        f"{HEADER}\n{ROW},\n\n",
        f"{HEADER.replace('id', 'filename', 1)}\n{ROW}",
        f"\ufeff{HEADER}\n{ROW}\n",
        f"{HEADER}\n474,{ROW[4:].replace('1', '1.0').replace('2', '2.0')}\n",
        f"{HEADER.replace(',', ', ')}\n{ROW.replace(',', ', ')}\n",
        f"{HEADER},upmulticolor,downmulticolor\n{ROW},1,1\n",
        "\n".join(",".join(reversed(line.split(","))) for line in (HEADER, ROW)),
    ],
    ids=[
        "CRLF",
        "trailing commas",
        "trailing comma in rows",
        "filename",
        "byte order mark",
        "floats",
        "spaces",
        "multicolour columns",
        "other order",
    ],
)
def test_files_of_other_tools_are_read_the_same(data):
    assert read_annotations(data.encode(), "a.csv") == {"474": CODES}


@settings(max_examples=50)
@given(
    st.lists(codes, min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ", "]),
    st.sampled_from(["id", "filename"]),
    *(st.booleans() for _ in range(5)),
)
def test_any_mix_of_the_forms_of_other_tools_is_read_back(
    people, newline, comma, key, floats, multicolour, mark, trailing_comma, final_newline
):
    rows = {f"{number:06d}.jpg": code for number, code in enumerate(people)}
    lines = [line.split(",") for line in write_annotations(rows.items()).decode().splitlines()]
    lines[0][0] = key
    for line in lines[1:]:
        no_upper, no_lower = "2" not in line[11:19], "2" not in line[19:]
        if multicolour:
            line += ["2" if none else "1" for none in (no_upper, no_lower)]
        if floats:
            line[1:] = [f"{value}.0" for value in line[1:]]
    if multicolour:
        lines[0] += ["upmulticolor", "downmulticolor"]
    end = "," if trailing_comma else ""
    text = newline.join(comma.join(line) + end for line in lines)
    text = "\ufeff" * mark + text + newline * final_newline
    assert read_annotations(text.encode(), "a.csv") == rows


@pytest.mark.parametrize("changes", [{}, {"upmulticolor": "2"}])
def test_no_colour_is_multicolour(changes):
    rows = read_annotations(as_file(upwhite="1", **changes), "a.csv")
    assert rows["474"]["upper_colour"] == 8
    assert rows["474"]["lower_colour"] == 1


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"age": "5"}, ["a.csv", "474", "age", "'5'", "1 to 4"]),
        ({"age": "0"}, ["age", "'0'"]),
        ({"hat": "3"}, ["hat", "'3'", "1 to 2"]),
        ({"hat": "1.5"}, ["hat", "'1.5'"]),
        ({"hat": "-1"}, ["hat", "'-1'"]),
        ({"hat": "nan"}, ["hat", "'nan'"]),
        ({"upred": "inf"}, ["upred", "'inf'"]),
        ({"gender": "male"}, ["gender", "'male'"]),
        ({"gender": ""}, ["gender", "''"]),
        ({"upred": "2"}, ["upwhite and upred"]),
        ({"upmulticolor": "2"}, ["upwhite and upmulticolor"]),
        ({"id": ""}, ["line 2", "id is empty"]),
    ],
)
def test_a_wrong_value_is_named_with_file_row_and_column(changes, names):
    with pytest.raises(UserError) as error:
        read_annotations(as_file(**changes), "a.csv")
    assert all(name in str(error.value) for name in names)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "columns missing: id, age"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a UTF-8 text file"),
        (f"{HEADER.replace(',hat', '')}\n".encode(), "columns missing: hat"),
        (f"{HEADER}\n{ROW[:-2]}\n".encode(), "'downbrown' is missing"),
        (f"{HEADER}\n{ROW}\n{ROW}\n".encode(), "id '474'): this id has an earlier row"),
    ],
    ids=["empty", "an image", "no hat", "short row", "id twice"],
)
def test_a_file_of_another_form_is_refused(data, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_annotations(data, "a.csv")


@pytest.mark.parametrize("age", [-1, 4])
def test_a_label_outside_the_schema_is_never_written(age):
    with pytest.raises(ValueError, match="age"):
        encode_annotation_row(CODES | {"age": age})


def test_the_real_annotations_survive_reading_and_writing():
    file = DATA / "market-trento" / "annotations_train.csv"
    if not file.exists():
        pytest.skip("needs the real Market-1501 annotations")
    data = file.read_bytes()
    rows = read_annotations(data, file.name)
    assert write_annotations(rows.items()) == data
    ages = [row["age"] for row in rows.values()]
    assert [ages.count(age) for age in range(4)] == [7, 597, 139, 8]
    assert sum(row["upper_colour"] == 8 for row in rows.values()) == 72
    assert sum(row["lower_colour"] == 9 for row in rows.values()) == 38


@given(
    st.lists(st.tuples(*(st.integers(0, size - 1) for size in PEDESTRIAN_SCHEMA.sizes))),
    st.data(),
)
def test_the_lines_of_many_rows_are_those_of_the_file(labels, data):
    known = data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    names = [f"{'=' * (number % 3)}{number}.jpg" for number in range(len(labels))]
    rows = [
        (name, dict(zip(PEDESTRIAN_SCHEMA.names, row, strict=True)) if is_known else None)
        for name, row, is_known in zip(names, labels, known, strict=True)
    ]
    array = np.array(labels, np.int64).reshape(-1, len(PEDESTRIAN_SCHEMA.sizes))
    lines = annotation_lines(names, array, np.array(known, bool))
    assert write_annotations([]) + lines == write_annotations(rows)


def test_a_label_outside_the_schema_is_refused_among_many_rows():
    labels = np.zeros((3, len(PEDESTRIAN_SCHEMA.sizes)), np.int64)
    labels[1, 0] = 99
    with pytest.raises(ValueError, match="has label 99, expected 0 to"):
        annotation_lines(["a", "b", "c"], labels, np.ones(3, bool))
    annotation_lines(["a", "b", "c"], labels, np.array([True, False, True]))
