"""The comparison of pet networks, on synthetic pets."""

import csv
import json

import pytest
import torch
from support.pet_images import BREEDS, draw_pets

from reidray.config.comparison import CompareConfig
from reidray.errors import UserError
from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network
from reidray.studies.pets.pets_comparison import compare_pets

pytestmark = pytest.mark.cluster


@pytest.fixture
def pets(tmp_path):
    return draw_pets(tmp_path / "pets")


def saved(folder, name, **fields):
    """Write an untrained network as a model directory."""
    torch.manual_seed(0)
    architecture = build_architecture(name, height=32, width=32, **fields)
    folder.mkdir()
    card = ModelCard(metric="", metrics={"training_seconds": 7.0})
    save_model(folder, build_network(architecture), architecture, card, "")
    return f"{folder.name}={folder}"


def compare(data, output, *models):
    return compare_pets(
        CompareConfig(data=str(data), output=str(output), task="pets", models=models)
    )


@pytest.mark.usefixtures("ray_address")
def test_the_report_compares_metrics_and_masks_of_networks(pets, tmp_path):
    models = [
        saved(tmp_path / "scratch", "pets_scratch_transpose", num_classes=3),
        saved(tmp_path / "dense", "pets_mobilenet_dense", num_classes=3),
    ]
    result = compare(pets, tmp_path / "out", *models)
    assert [row["method"] for row in result["methods"]] == ["scratch", "dense"]
    scratch, dense = result["methods"]
    assert scratch["test_images"] == dense["test_images"] == 12
    assert scratch["mask_iou"] is not None
    assert dense["mask_iou"] is None
    assert scratch["training_seconds"] == 7.0
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open(newline="")))
    assert [row["mask_iou"] == "" for row in rows] == [False, True]
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    confusion = record["test"]["dense"]["labels"]["class"]["confusion"]
    assert [sum(counts) for counts in confusion] == [4, 4, 4]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(breed in page for breed in BREEDS)
    assert page.count("data:image/jpeg") == 2 * 6


def test_invalid_comparisons_are_refused_before_ray_starts(pets, tmp_path):
    two = saved(tmp_path / "two", "pets_scratch_transpose", num_classes=2)
    person = saved(tmp_path / "person", "vgg_triplet_rgb")
    for models, complaint in (
        ((), "nothing to compare"),
        ((two,), "predicts 2 classes and .* has 3"),
        ((person,), "predicts no classes: its network is 'vgg_triplet_rgb'"),
    ):
        with pytest.raises(UserError, match=complaint):
            compare(pets, tmp_path / "out", *models)
    (pets / "annotations" / "test.txt").unlink()
    with pytest.raises(UserError, match="no test images"):
        compare(pets, tmp_path / "out", two)
    assert not (tmp_path / "out").exists()
