"""The comparison job, with real Ray."""

import csv
import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from support.paths import ROOT
from support.person_crops import draw_crop

from reidray.models import ModelCard, build_architecture, save_model
from reidray.models.factory import build_network

pytestmark = pytest.mark.cluster
SECONDS = ("training_seconds", "inference_seconds", "seconds")


draw = partial(draw_crop, noise=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("qut <1>")
    for person in range(1, 21):
        for shot in range(6):
            draw(
                root / "Training" / f"{person:04d}_c{1 + shot % 3}s1_{shot:06d}_00.png",
                person,
                shot,
            )
    for person in range(101, 131):
        draw(root / "Testing" / "Probe" / f"{person:04d}_c1s1_000001_00.png", person, 1)
        draw(root / "Testing" / "Gallery" / f"{person:04d}_c2s1_000002_00.png", person, 2)
    (root / "Testing" / "Probe" / "0104_c1s1_000001_00.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    architecture = build_architecture(
        "baseline", backbone="resnet_tiny", num_people=3, height=32, width=16
    )
    card = ModelCard(metric="euclidean", metrics={"training_seconds": 12.5})
    save_model(folder, build_network(architecture), architecture, card, "# Model\n")
    return folder


def run(ray_address, data, model, output, workers):
    command = [sys.executable, ROOT / "jobs" / "compare.py", "--data", data, "--output", output]
    command += ["--models", f"night={model}", "--pca", "0.9", "5", "--height", "8", "--width", "4"]
    command += ["--num-workers", str(workers), "--max-bad", "0.05", "--ray-address", ray_address]
    command += ["--pca-variants"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def without_seconds(method):
    return {key: value for key, value in method.items() if key not in SECONDS}


@pytest.mark.slow
def test_metrics_of_baselines_and_model_are_the_same_for_any_number_of_workers(
    ray_address, data, model, tmp_path
):
    result, messages = run(ray_address, data, model, tmp_path / "out", 1)
    names = ["PCA 90%", "PCA 5", "LDA", "night"]
    assert [method["method"] for method in result["methods"]] == names
    assert all(name in messages for name in names)
    metrics = [method["metric"] for method in result["methods"]]
    assert metrics == ["cosine", "cosine", "cosine", "euclidean"]
    assert result["methods"][1]["embedding_length"] == 5
    assert result["methods"][3]["training_seconds"] == 12.5
    assert result["methods"][2]["top1"] > 0.8  # people of colours of their own

    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["images"]["query"] == 29
    assert record["protocol"] == "single_shot"
    variants = [(row["augmented"], row["standardised"]) for row in record["pca_variants"]]
    assert variants == [(False, True), (False, False), (True, True), (True, False)]
    assert all(0 < row["components"] <= 96 for row in record["pca_variants"])
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == names

    page = (tmp_path / "out" / "report.html").read_text()
    assert "qut &lt;1&gt;" in page
    assert 'src="data:image/jpeg;base64,' in page
    assert not [part for part in page.split('src="')[1:] if not part.startswith("data:image/")]
    assert "0104" not in page

    again, _ = run(ray_address, data, model, tmp_path / "again", 2)
    assert list(map(without_seconds, again["methods"])) == list(
        map(without_seconds, result["methods"])
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "out"]
