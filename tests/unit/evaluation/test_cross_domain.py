"""The table of models and data sets: its configuration, its text and its files."""

import json
import re

import pytest
from support.tiny_images import write_images

from reidray.cli.arguments import parse_arguments
from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.cross_domain.matrix_evaluation import (
    CrossDomainMatrix,
    EvaluatedModel,
    format_table,
)
from reidray.evaluation.cross_domain.matrix_files import write_matrix
from reidray.evaluation.evaluation_run import check_evaluate_inputs


def metrics(mean_ap, rank1):
    return {"mean_ap": mean_ap, "rank1": rank1, "mean_inp": 0.125, "protocol": "market1501"}


MATRIX = CrossDomainMatrix(
    {"market": "/sets/market", "<duke>": "/sets/duke"},
    {
        "osnet": EvaluatedModel(
            "/runs/osnet/model", 1234.56, {"market": metrics(0.8, 1), "<duke>": metrics(0.3, 0.5)}
        ),
        "apr": EvaluatedModel(
            "/runs/apr/model", 99, {"market": metrics(0.51234, 0.7), "<duke>": metrics(0.2, 0.4)}
        ),
    },
)


def test_the_table_has_a_row_for_each_model_and_a_column_for_each_set():
    assert format_table(MATRIX) == [
        "mAP / Rank-1 / mINP in %               market              <duke>  images/s",
        "osnet                     80.0 / 100.0 / 12.5  30.0 / 50.0 / 12.5     1,235",
        "apr                        51.2 / 70.0 / 12.5  20.0 / 40.0 / 12.5        99",
    ]


def test_the_json_line_and_the_files_hold_the_metrics_of_each_pair(tmp_path):
    line = MATRIX.to_json()
    assert line["models"]["apr"]["datasets"]["market"] == metrics(0.5123, 0.7)
    assert line["models"]["osnet"]["images_per_second"] == 1234.6
    write_matrix(tmp_path, MATRIX)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["models"]["apr"]["datasets"]["market"]["mean_ap"] == 0.51234
    page = (tmp_path / "cross_domain.html").read_text()
    assert "&lt;duke&gt;" in page
    assert "<duke>" not in page
    row = re.search(r'<tr><th scope="row">apr</th>(.*)</tr>', page)[1]
    assert re.findall(r">([^<>]+)</td>", row) == [
        *("51.2%", "70.0%", "12.5%", "20.0%", "40.0%", "12.5%", "99"),
    ]


def test_one_model_and_one_set_are_no_table():
    assert not EvaluateConfig(model=("m",), data=("d",)).is_cross_domain
    assert EvaluateConfig(model="m", data=("d", "e")).is_cross_domain
    flags = ["--model", "m", "n", "--data", "d", "--layout", "market1501"]
    asked = parse_arguments(EvaluateConfig, flags).config
    assert asked.is_cross_domain
    assert (asked.model, asked.data) == (("m", "n"), "d")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": ("a", "b"), "layout": ("auto",) * 3}, "`layout` has 3 values and `data` 2"),
        ({"data": ("a", "b"), "root": "r"}, "`root` goes with one manifest"),
        ({"data": ()}, "`data` is an empty list"),
        ({"model": ("m", "n")}, "`model` and `data` belong together"),
    ],
)
def test_what_does_not_fit_several_sets_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(**({"model": "m"} | given))


def test_a_model_or_a_set_that_is_named_twice_or_missing_is_refused(tmp_path):
    for name in ("m", "n"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("model.json", "model.safetensors"):
            (folder / file).write_text("{}")
    data = write_images(tmp_path / "set", ["query/0001_c1_1.jpg", "bounding_box_test/1_c2_1.jpg"])
    models, sets = [str(tmp_path / "m"), str(tmp_path / "n")], [str(data)]
    check_evaluate_inputs(EvaluateConfig(model=tuple(models), data=tuple(sets)))
    for model, sets_, message in (
        (models + models[:1], sets, "`model` names one place twice"),
        (models, sets * 2, "`data` names one place twice"),
        ([*models, str(tmp_path / "o")], sets, "`model` .*: no such folder"),
        ([*models, str(data)], sets, "`model` .*: has no model.json"),
    ):
        with pytest.raises(UserError, match=message):
            check_evaluate_inputs(EvaluateConfig(model=tuple(model), data=tuple(sets_)))
