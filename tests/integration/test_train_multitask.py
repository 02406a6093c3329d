"""Training what an image shows, as a job: made pets whose coat is their breed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.forked_scripts import script_command
from support.paths import ROOT
from support.pet_images import BREEDS, draw_pets

from reidray.config import TrainMultitaskConfig
from reidray.errors import UserError
from reidray.models import load_model
from reidray.training.orchestration import build_experiment

pytestmark = pytest.mark.cluster
SMALL = ["--network.height", 32, "--network.width", 32, "--batch-size", 8]
SMALL += ["--epochs", 3, "--val-fraction", 0.25]


def train(*arguments, is_fresh=False):
    words = [ROOT / "jobs" / "train_multitask.py", *arguments]
    command = [sys.executable, *map(str, words)] if is_fresh else script_command(*words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def pets(tmp_path):
    return draw_pets(tmp_path / "pets")


def test_a_run_leaves_a_model_its_figures_on_each_part_and_what_was_set_aside(
    ray_address, pets, tmp_path
):
    Image.new("L", (7, 7), 1).save(pets / "annotations" / "trimaps" / "beagle_3.png")
    run = tmp_path / "run"
    code, output, messages = train(
        *("--task", "pets", "--data", pets, "--recipe", "pets_scratch_transpose", *SMALL),
        *("--output", run, "--max-bad", 0.1, "--num-workers", 2, "--ray-address", ray_address),
    )
    assert code == 0, messages
    assert "set aside: images/beagle_3.jpg" in messages
    result = json.loads(output.splitlines()[-1])
    assert (result["judged_on"], result["bad_images"]) == ("test", 1)
    assert result["inference_seconds"] > 0
    model = load_model(run / "model")
    parts = model.card.metrics["parts"]
    images = {name: part["images"] for name, part in parts.items()}
    assert images["training"] + images["validation"] == 23
    assert images["test"] == 12
    assert np.array(parts["test"]["labels"]["class"]["confusion"]).sum() == 12
    assert parts["test"]["labels"]["class"]["classes"] == list(BREEDS)
    assert result["mask_f1"] == pytest.approx(parts["test"]["mask_f1"], abs=1e-4)
    page = (run / "report.html").read_text()
    assert "beagle_3.jpg" in page
    assert "Samples before and after augmentation" in page
    assert page.count("<svg") >= 6


@pytest.mark.slow
def test_attributes_of_a_team_s_own_manifest_are_trained(ray_address, pets, tmp_path):
    rows = ["path,split,attr_coat,attr_size"]
    for breed, name in enumerate(BREEDS):
        for number in range(12):
            coat = ("red", "green", "blue")[breed] if number else ""
            split = "train" if number < 8 else "gallery"
            rows.append(f"images/{name}_{number}.jpg,{split},{coat},{('big', 'small')[number % 2]}")
    manifest = pets / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    code, output, messages = train(
        *("--task", "attributes", "--data", manifest, "--recipe", "attributes_vgg", *SMALL),
        *("--output", tmp_path / "run", "--ray-address", ray_address),
        is_fresh=True,
    )
    assert code == 0, messages
    result = json.loads(output.splitlines()[-1])
    assert result["judged_on"] == "test"
    assert 0 <= result["attribute_accuracy"] <= 1
    labels = load_model(tmp_path / "run" / "model").card.metrics["parts"]["test"]["labels"]
    assert set(labels) == {"coat", "size"}


def prepare(data, **settings):
    config = {"task": "pets", "batch_size": 8, **settings}
    return build_experiment(TrainMultitaskConfig(data=str(data), **config))


def test_what_cannot_be_trained_is_refused_before_ray_starts(pets, tmp_path):
    with pytest.raises(UserError, match="more than the 18 training images"):
        prepare(pets, batch_size=32)
    with pytest.raises(UserError, match="layout pets has no attributes"):
        prepare(pets, task="attributes")
    lines = (pets / "annotations" / "trainval.txt").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("beagle")]
    (pets / "annotations" / "trainval.txt").write_text("\n".join(kept) + "\n")
    with pytest.raises(UserError, match="class 'beagle' has no training image"):
        prepare(pets)
    table = ["path,split,label", "images/beagle_1.jpg,train,0", "images/beagle_2.jpg,train,x"]
    table += ["images/Birman_1.jpg,train,0"]
    (pets / "manifest.csv").write_text("\n".join(table) + "\n")
    with pytest.raises(UserError, match=r"manifest\.csv"):
        prepare(pets / "manifest.csv")
    assert not (tmp_path / "runs").exists()


def test_a_mistake_is_one_line_with_status_2(tmp_path):
    code, output, messages = train("--task", "pets", "--data", tmp_path / "none", is_fresh=True)
    assert (code, output) == (2, "")
    assert messages.startswith("error: ")
    assert messages.count("\n") == 1
