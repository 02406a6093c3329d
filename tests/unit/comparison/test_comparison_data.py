"""A comparison leaves out the people that a training with the same split validates on."""

import numpy as np
import pytest
from support.tiny_images import write_images

from reidray.comparison.compare_checks import check_compare_output
from reidray.comparison.comparison_data import read_comparison_data
from reidray.config import TrainReidConfig
from reidray.config.comparison import CompareConfig
from reidray.data.layouts import read_manifest
from reidray.errors import UserError
from reidray.training.tasks.reid.definition import label_people


@pytest.fixture
def single_shot(tmp_path):
    """Return ten training people with two images each, and two people to rank."""
    paths = [f"Training/{p:04d}_c{c}s1_000001_00.jpg" for p in range(1, 11) for c in (1, 2)]
    for person in (101, 102):
        paths.append(f"Testing/Probe/{person:04d}_c1s1_000001_00.jpg")
        paths.append(f"Testing/Gallery/{person:04d}_c2s1_000002_00.jpg")
    return str(write_images(tmp_path / "data", paths))


@pytest.mark.parametrize(
    "split", [{"split_order": "files"}, {"split_seed": 3}, {"split_seed": 4, "val_fraction": 0.5}]
)
def test_the_people_are_those_of_the_training(single_shot, split):
    compared = read_comparison_data(
        CompareConfig(data=single_shot, output="-", height=4, width=4, **split)
    )
    config = TrainReidConfig(data=single_shot, **split)
    _, labels = label_people(config, read_manifest(single_shot))
    found = np.unique(compared.train.person_ids)
    assert found.tolist() == np.unique(labels["train"].person_ids).tolist()
    if split == {"split_order": "files"}:
        assert found.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_an_output_replaces_that_of_an_earlier_comparison_and_nothing_else(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    for name in ("comparison.json", "table.csv", "report.html"):
        (output / name).write_text("of yesterday")
    config = CompareConfig(data=str(tmp_path / "data"), output=str(output))
    check_compare_output(config)
    (output / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'mine.txt', which would be lost"):
        check_compare_output(config)
