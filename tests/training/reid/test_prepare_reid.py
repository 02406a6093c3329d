"""What a training is checked for before a cluster is asked for."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from reidray.config import (
    BatchConfig,
    LossConfig,
    NetworkConfig,
    ReidValidationConfig,
    TrainReidConfig,
)
from reidray.data.annotations import ANNOTATION_COLUMNS
from reidray.errors import UserError
from reidray.training.reid.prepare import prepare_reid


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Twelve people with four images of two cameras each, and their attributes."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "train").mkdir()
    for person in range(1, 13):
        for image in range(4):
            name = f"{person:04d}_c{1 + image % 2}_{image:09d}.jpg"
            pixels = np.full((32, 16, 3), 20 * person, np.uint8)
            Image.fromarray(pixels).save(folder / "train" / name)
    plain = ",".join(["2"] + ["1"] * (len(ANNOTATION_COLUMNS) - 1))
    rows = [f"{person},{plain}" for person in range(1, 13)]
    table = "\n".join([",".join(("id", *ANNOTATION_COLUMNS)), *rows])
    (folder / "annotations_train.csv").write_text(table + "\n")
    return folder


@pytest.mark.parametrize(
    ("name", "predicted"), [("apr", 12), ("baseline", 0), ("vgg_triplet_rgb", 0)]
)
def test_a_network_is_described_by_what_it_has(annotated, tmp_path, name, predicted):
    config = TrainReidConfig(
        data=str(annotated),
        output=str(tmp_path / "run"),
        network=NetworkConfig(name=name, height=32, width=16),
        batch=BatchConfig(people=4, crops=2),
        val_fraction=0.25,
    )
    prepared = prepare_reid(config)
    assert len(prepared.manifest.schema.names) == 12
    assert len(prepared.spec.schema.names) == predicted
    assert prepared.spec.num_people == (0 if name == "vgg_triplet_rgb" else 9)
    assert (prepared.spec.height, prepared.spec.width) == (32, 16)
    assert not (tmp_path / "run").exists()


def prepare(annotated, tmp_path, **settings):
    network = NetworkConfig(**settings.pop("network"), height=32, width=16)
    config = TrainReidConfig(
        data=str(annotated),
        output=str(tmp_path / "run"),
        network=network,
        batch=BatchConfig(people=4, crops=2),
        val_fraction=0.25,
        **settings,
    )
    return prepare_reid(config)


def test_what_is_not_said_of_a_network_is_as_in_its_report(annotated, tmp_path):
    prepared = prepare(annotated, tmp_path, network={"name": "vgg_triplet_rgb"})
    assert prepared.config.network.embedding_size == prepared.spec.embedding_size == 301
    assert prepared.config.network.backbone is None
    again = prepare_reid(prepared.config)
    assert again.spec == prepared.spec


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"network": {"name": "vgg_triplet_rgb", "backbone": "resnet18"}}, "has no backbone"),
        ({"network": {"name": "pets_autoencoder"}}, "not for reid: choose one of apr, baseline"),
        ({"network": {"name": "vgg_triplet_rbg"}}, "did you mean 'vgg_triplet_rgb'"),
        (
            {"network": {"name": "vgg_triplet_rgb"}, "loss": LossConfig(triplet=0)},
            "learns nothing",
        ),
        (
            {
                "network": {"name": "baseline"},
                "validation": ReidValidationConfig(select_by="attribute_accuracy"),
            },
            "predicts no attributes",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_so_is_refused(annotated, tmp_path, settings, complaint):
    with pytest.raises(UserError, match=complaint):
        prepare(annotated, tmp_path, **settings)
    assert not (tmp_path / "run").exists()


def test_cameras_cannot_be_spread_where_none_are_known(tmp_path):
    for person in range(8):
        for image in range(2):
            file = tmp_path / "data" / f"{person}" / f"{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 16), (9 * person, 0, 0)).save(file)
    batch = BatchConfig(people=2, crops=2, spread_cameras=True)
    config = TrainReidConfig(data=str(tmp_path / "data"), batch=batch)
    with pytest.raises(UserError, match="spread-cameras needs cameras"):
        prepare_reid(config)


@pytest.mark.parametrize("name", ["../../treasure", "/treasure", "linked", "gone", ".."])
def test_a_run_whose_checkpoints_lie_elsewhere_is_not_gone_on_with(annotated, tmp_path, name):
    """Ray would delete them in time."""
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "one").mkdir(parents=True)
    (tmp_path / "treasure").mkdir()
    (checkpoints / "linked").symlink_to(tmp_path / "treasure")
    config = prepare(annotated, tmp_path / "new", network={"name": "vgg_triplet_rgb"}).config
    snapshot = {"checkpoint_results": [{"checkpoint_dir_name": "one", "metrics": {}}]}
    (checkpoints / "checkpoint_manager_snapshot.json").write_text(json.dumps(snapshot))
    assert prepare_reid(config, str(tmp_path / "run")).run.folder == tmp_path / "run"
    snapshot["latest_checkpoint_result"] = {"checkpoint_dir_name": name, "metrics": {}}
    (checkpoints / "checkpoint_manager_snapshot.json").write_text(json.dumps(snapshot))
    with pytest.raises(UserError, match=re.escape(f"names a checkpoint {name!r}")):
        prepare_reid(config, str(tmp_path / "run"))
