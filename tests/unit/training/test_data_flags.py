"""Every job reads its data from the configured root, and through links."""

import pytest
import yaml
from PIL import Image

from reidray.comparison.comparison_data import read_comparison_data
from reidray.config import (
    BatchConfig,
    NetworkConfig,
    TrainMultitaskConfig,
    TrainReidConfig,
)
from reidray.config.comparison import CompareConfig
from reidray.config.tuning import TuneConfig
from reidray.data.images.decoding import decode_files
from reidray.training.orchestration import build_experiment
from reidray.tuning.sweep import prepare_sweep


@pytest.fixture
def settings(tmp_path):
    """Return the settings of a manifest with absolute paths of links into a cache."""
    rows = []
    for number in range(64):
        person, split = 1 + number % 8, ("train", "query", "gallery")[number // 16 % 3]
        cached, link = tmp_path / "cache" / f"{number}", tmp_path / "set" / f"{number}.png"
        for file in (cached, link):
            file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 32), (9 * person, number, 0)).save(cached, "PNG")
        link.symlink_to(cached)
        person += 0 if split == "train" else 100
        rows.append(f"{link},{split},{person},{number % 3},{'ab'[number % 2]}")
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "spring.csv"
    file.write_text("\n".join(["path,split,person,camera,label", *rows]) + "\n")
    return {"data": str(file), "root": str(tmp_path / "set"), "follow_links": True}


def train_reid(settings, output):
    config = TrainReidConfig(
        **settings,
        output=output,
        network=NetworkConfig(name="reid_small"),
        batch=BatchConfig(people=2, crops=2),
    )
    return build_experiment(config).image_files()


def train_multitask(settings, output):
    network = NetworkConfig(name="pets_mobilenet_dense")
    config = TrainMultitaskConfig(
        **settings, output=output, task="pets", batch_size=4, network=network
    )
    return build_experiment(config).image_files()


def tune(settings, output):
    base = output + ".yaml"
    with open(base, "w") as file:  # noqa: PTH123
        yaml.safe_dump({"batch": {"people": 2, "crops": 2}}, file)
    config = TuneConfig(
        **settings, output=output, recipe="reid_small", space=("learning_rate",), base=base
    )
    return prepare_sweep(config).experiment.image_files()


@pytest.mark.parametrize("job", [train_reid, train_multitask, tune])
def test_a_training_reads_from_its_root_and_through_links(settings, tmp_path, job):
    files = job(settings, str(tmp_path / "run"))
    paths = list(files.paths)
    assert paths
    assert files.location.uri == settings["root"]
    assert not decode_files(files.location, paths, (32, 16)).bad


def test_a_comparison_reads_from_its_root_and_through_links(settings, tmp_path):
    images = read_comparison_data(CompareConfig(**settings, output=str(tmp_path / "out"), pca=(4,)))
    names = [name for labels in images.sets.values() for name in labels.names]
    assert not decode_files(images.location, names, (32, 16)).bad
    assert images.dataset["layout"] == "manifest"
