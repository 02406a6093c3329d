"""The comparison of pet networks, on synthetic pets."""

import csv
import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.pet_images import BREEDS, draw_pets

from reidray.config.comparison import CompareConfig
from reidray.data.layouts import read_manifest
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


def compare(data, output, *models, **fields):
    return compare_pets(
        CompareConfig(data=str(data), output=str(output), task="pets", models=models, **fields)
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
    assert all(0 <= row["nearest10_accuracy"] <= 1 for row in (scratch, dense))
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open(newline="")))
    assert [row["mask_iou"] == "" for row in rows] == [False, True]
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    tested = record["test"]["dense"]
    for metrics in (tested["labels"]["class"], tested["nearest10"]):
        assert [sum(counts) for counts in metrics["confusion"]] == [4, 4, 4]
    assert tested["nearest10"]["accuracy"] == pytest.approx(dense["nearest10_accuracy"], abs=1e-4)
    assert "best_masks" not in tested
    masks = record["test"]["scratch"]
    assert masks["best_masks"][0]["iou"] >= masks["worst_masks"][0]["iou"]
    assert all(each["class"] != each["predicted"] for each in tested["confident_mistakes"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(breed in page for breed in BREEDS)
    assert page.count('alt="predicted mask"') == page.count('alt="true mask"') == 8
    assert page.count("10 nearest neighbours<") == 2
    assert "t-SNE" in page


@pytest.mark.usefixtures("ray_address")
def test_a_report_without_images_shows_none(pets, tmp_path):
    model = saved(tmp_path / "dense", "pets_mobilenet_dense", num_classes=3)
    table = read_manifest(str(pets), "auto").table
    rows = table.filter(pc.equal(table["split"], "gallery"))
    manifest = tmp_path / "test.parquet"
    pq.write_table(rows, manifest)
    result = compare(manifest, tmp_path / "out", model, root=str(pets), no_images=True)
    assert result["methods"][0]["nearest10_accuracy"] is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/jpeg" not in page
    assert "data:image/png" in page  # the t-SNE map


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
