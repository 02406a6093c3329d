import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.images.decoding import BadImage
from reidray.data.reading.annotations import read_annotations, write_annotations
from reidray.evaluation.evaluation_result import QueryResult, query_table
from reidray.inference.runs.quarantine import write_quarantine
from reidray.scoring.gallery_distractors import distractor_table
from reidray.storage.csv_files import escape_formula, unescape_formula, write_csv, write_csv_records
from reidray.studies.films.recommendation_files import list_table

STARTS = "=+-@\t\r"
EVIL = "=HYPERLINK(1).jpg"


def cells(data):
    return [cell for row in csv.reader(io.StringIO(data, newline="")) for cell in row]


@given(st.text(st.sampled_from("'=+-@\t\r\n ab1_c.")) | st.text())
def test_an_escaped_text_is_no_formula_and_is_restored(text):
    written = escape_formula(text)
    assert unescape_formula(written) == text
    if written.startswith(tuple(STARTS)):
        assert written.startswith("-1_c")


@pytest.mark.parametrize("start", STARTS)
def test_every_start_of_a_formula_has_an_apostrophe_before_it(start):
    name = f"{start}cmd|' /C calc'!A0.jpg"
    written = write_csv(("file", "score"), [(name, -1.5)])
    assert cells(written.decode()) == ["file", "score", f"'{name}", "-1.5"]


@pytest.mark.parametrize(
    "name", ["000123.jpg", "a/0002_c1.jpg", "-1_c1s1_000401_03.jpg", "it's.jpg", "'quoted'.jpg"]
)
def test_ordinary_names_stay_as_they_are(name):
    assert escape_formula(name) == name
    assert unescape_formula(name) == name


def test_a_formula_that_begins_with_minus_one_is_escaped():
    assert escape_formula("-1_c1s1+2.jpg") == "'-1_c1s1+2.jpg"


def test_a_line_break_within_a_name_begins_no_row():
    data = write_csv(("file",), [("a\r=1.jpg",), ("b\n=1.jpg",)])
    assert data == b'file\n"a\r=1.jpg"\n"b\n=1.jpg"\n'


def test_no_file_that_a_job_writes_holds_a_formula():
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    files = [
        write_annotations([(EVIL, codes)]),
        write_quarantine({"query": [BadImage(EVIL, "@reason")]}),
        distractor_table([EVIL], {"distractor_score": np.ones(1, np.float32)}),
        query_table([QueryResult(EVIL, 1, 1, 0.5, 1, 1)]),
        write_csv_records([{"method": EVIL, "mean_ap": -0.5}]),
    ]
    for data in files:
        found = cells(data.decode())
        assert f"'{EVIL}" in found
        assert EVIL not in found
    assert list_table([]).startswith(b"user,")


def test_attributes_of_any_name_are_read_back():
    codes = dict.fromkeys(PEDESTRIAN_SCHEMA.names, 0)
    names = [EVIL, "'=a.jpg", "''+a.jpg", "-1_c1.jpg", "@a.jpg", "a.jpg", "'a.jpg"]
    data = write_annotations((name, codes) for name in names)
    assert list(read_annotations(data, "a.csv")) == names
    assert b"\n'=HYPERLINK(1).jpg,1," in data
    assert b"\na.jpg,1," in data
