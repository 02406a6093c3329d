"""Checks of a re-ID training that need no cluster."""

import json
import re
import resource
import shutil
import weakref
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from support.plugin_networks import registered_network
from support.training_folders import reid_experiment, write_person_folders
from torch import nn

from reidray.cli.arguments import parse_arguments
from reidray.config import (
    BatchConfig,
    LossConfig,
    NetworkConfig,
    NetworkOptions,
    OptimizerConfig,
    ReidValidationConfig,
    TrainReidConfig,
)
from reidray.data.attribute_schema import AttributeSchema
from reidray.data.reading.annotations import ANNOTATION_COLUMNS
from reidray.errors import UserError
from reidray.models import Network, Outputs
from reidray.models.networks.network import IMAGENET_SCALING
from reidray.training.execution.single_process import SingleProcess
from reidray.training.execution.train_job import resume_settings
from reidray.training.orchestration import build_experiment, decode_images, start_run
from reidray.training.runs.checkpoint_files import (
    FILES,
    repair_checkpoint_list,
    write_checksums,
)
from reidray.training.runs.run_directory import RunDirectory
from reidray.training.tasks.network_choice import resolve_network
from reidray.training.tasks.reid.validation_queries import plan_ranking


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
def test_an_architecture_has_the_labels_of_its_network(annotated, tmp_path, name, predicted):
    config = TrainReidConfig(
        data=str(annotated),
        output=str(tmp_path / "run"),
        network=NetworkConfig(name=name, height=32, width=16),
        batch=BatchConfig(people=4, crops=2),
        val_fraction=0.25,
    )
    experiment = build_experiment(config)
    assert len(experiment.manifest.schema.names) == 12
    assert len(experiment.architecture.schema.names) == predicted
    assert experiment.architecture.num_people == (0 if name == "vgg_triplet_rgb" else 9)
    assert (experiment.architecture.height, experiment.architecture.width) == (32, 16)
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
    return build_experiment(config)


@dataclass(frozen=True, kw_only=True)
class MeanOptions(NetworkOptions):
    predicts: ClassVar = ("identity",)

    length: int = 3
    returned: int = 3


class MeanNetwork(Network):
    """A network of a plugin, whose embedding is the mean of the pixels, or a part of it."""

    def __init__(self, architecture, _):
        super().__init__(IMAGENET_SCALING, embedding_size=architecture.options.length)
        self.returned = architecture.options.returned
        self.identity = nn.Linear(self.returned, architecture.num_people)

    def forward(self, crops):
        embedding = self.scale(crops).mean(dim=(2, 3))[:, : self.returned]
        return Outputs(embedding, embedding, self.identity(embedding), ())


@pytest.fixture
def mean_network():
    """The name of a network that a plugin registers."""
    with registered_network("mean", MeanOptions, MeanNetwork) as name:
        yield name


@pytest.mark.parametrize(("length", "returned"), [(0, 0), (3, 0), (3, 2)])
def test_a_network_whose_embedding_is_empty_or_of_another_length_is_refused(
    annotated, tmp_path, mean_network, length, returned
):
    prepare(annotated, tmp_path, network={"name": mean_network})
    complaint = rf"'mean' .*the shape \(1, {returned}\), and its embedding_size is {length}: give"
    network = {"name": mean_network, "length": length, "returned": returned}
    with pytest.raises(UserError, match=complaint):
        prepare(annotated, tmp_path, network=network)


def test_unset_settings_of_a_network_have_the_values_of_its_report(annotated, tmp_path):
    experiment = prepare(annotated, tmp_path, network={"name": "vgg_triplet_rgb"})
    assert experiment.architecture.options.embedding_size == 301
    assert experiment.config.network.embedding_size == 301
    assert experiment.config.network.backbone is None
    again = build_experiment(experiment.config)
    assert again.architecture == experiment.architecture


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"network": {"name": "vgg_triplet_rgb", "backbone": "resnet18"}}, "has no backbone"),
        (
            {"network": {"name": "vgg_triplet_rgb"}, "loss": LossConfig(triplet=0)},
            "learns nothing.*raise `loss.triplet`, or .* such as `loss.arcface.weight`",
        ),
        (
            {
                "network": {"name": "baseline"},
                "validation": ReidValidationConfig(select_by="attribute_accuracy"),
            },
            "predicts no attributes",
        ),
        (
            {
                "network": {"name": "vgg_triplet_rgb"},
                "optimizer": OptimizerConfig(freeze_backbone=0.1),
            },
            "`optimizer.freeze_backbone` needs a network with a backbone",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(annotated, tmp_path, settings, complaint):
    with pytest.raises(UserError, match=complaint):
        prepare(annotated, tmp_path, **settings)
    assert not (tmp_path / "run").exists()


def test_spreading_unknown_cameras_is_refused(tmp_path):
    for person in range(8):
        for image in range(2):
            file = tmp_path / "data" / f"{person}" / f"{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 16), (9 * person, 0, 0)).save(file)
    batch = BatchConfig(people=2, crops=2, spread_cameras=True)
    config = TrainReidConfig(data=str(tmp_path / "data"), batch=batch)
    with pytest.raises(UserError, match="spread_cameras` needs cameras"):
        build_experiment(config)


def folders(root, images, split="train"):
    """Images named as Market's in one split: of (person, camera) pairs, in a folder each."""
    for number, (person, camera) in enumerate(images):
        seen = "" if camera is None else f"_c{camera}"
        file = root / split / f"{person}" / f"{person:04d}{seen}_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), (9 * person % 256, 0, 0)).save(file)
    return root


def valid_queries(experiment):
    """Return how many validation queries have a match."""
    plan = plan_ranking(experiment.labels["val"], experiment.config.validation.protocol)
    return plan.num_valid_queries


def build_from_folders(data, **settings):
    batch = BatchConfig(people=2, crops=2)
    network = NetworkConfig(name="baseline", height=32, width=16)
    return build_experiment(
        TrainReidConfig(data=str(data), batch=batch, network=network, **settings)
    )


@pytest.mark.parametrize(("cameras", "queries"), [([1, 2], 6), ([None, None], 3), ([1, 1], 3)])
def test_the_number_of_validation_queries_is_described(tmp_path, cameras, queries):
    data = folders(tmp_path, [(p, c) for p in range(1, 13) for c in cameras])
    experiment = build_from_folders(data, val_fraction=0.25)
    assert experiment.describe_images().endswith(
        f"validating on 6 images of 3 people, {queries} queries"
    )
    assert not experiment.manifest.notes


def test_a_run_directory_holds_the_numbers_of_named_people(tmp_path):
    data = folders(tmp_path / "data", [(p, c) for p in range(1, 13) for c in (1, 2)])
    for name in ("11_1", "1_11", "9" * 20):
        shutil.copytree(data / "train" / "5", data / "train" / name)
    experiment = build_from_folders(data, output=str(tmp_path / "run"))
    start_run(experiment)
    told = json.loads((tmp_path / "run" / "person_ids.json").read_text())
    assert len(told) == len(set(told.values())) == 15
    table = experiment.manifest.table
    for path, person in zip(table["path"].to_pylist(), table["person"].to_pylist(), strict=True):
        assert told[path.split("/")[1]] == person
    assert not (tmp_path / "run" / "camera_ids.json").exists()


def test_a_protocol_that_needs_cameras_is_refused_without_them(tmp_path):
    data = folders(tmp_path, [(p, None) for p in range(1, 13) for _ in range(3)])
    with pytest.raises(UserError, match=r"`validation.protocol=market1501` needs cameras"):
        build_from_folders(data, validation=ReidValidationConfig(protocol="market1501"))


def test_queries_of_people_in_one_camera_are_noted(tmp_path):
    cameras = {person: (1, 1) if person % 2 else (1, 2) for person in range(1, 13)}
    data = folders(tmp_path, [(p, c) for p, pair in cameras.items() for c in pair])
    experiment = build_from_folders(data, val_fraction=0.5)
    one_camera = {*experiment.labels["val"].person_ids} & {*range(1, 13, 2)}
    two_cameras = len({*experiment.labels["val"].person_ids} - one_camera)
    asked = len(one_camera) + 2 * two_cameras
    note = experiment.manifest.notes[-1]
    assert f"not judged: {len(one_camera)} of {asked} ('train/" in note
    assert note.count(".png'") == len(one_camera)
    assert all(f"/{person:04d}_" in note for person in one_camera)


@pytest.mark.parametrize("order", ["random", "files"])
def test_people_with_one_image_each_are_refused_with_advice(tmp_path, order):
    data = folders(tmp_path, [(person, 1) for person in range(1, 9)])
    with pytest.raises(UserError, match=r"none of the 2 validation people has a second one: add"):
        build_from_folders(data, split_order=order)


def test_a_split_without_matches_is_refused_with_a_better_seed(tmp_path):
    images = [(person, 1) for person in range(1, 9)] + [(3, 2)]
    data = folders(tmp_path, images)
    with pytest.raises(UserError, match=r"choose other people by `split_seed=(\d+)`$") as refused:
        build_from_folders(data)
    seed = int(re.search(r"`split_seed=(\d+)`", str(refused.value))[1])
    assert valid_queries(build_from_folders(data, split_seed=seed)) == 2


def test_a_split_by_files_without_matches_is_refused_with_another_order(tmp_path):
    data = folders(tmp_path, [(person, 1) for person in range(1, 9)] + [(3, 2)])
    advice = r"raise `val_fraction`, or use `split_order=random` and `split_seed=(\d+)`$"
    with pytest.raises(UserError, match=advice) as refused:
        build_from_folders(data, split_order="files")
    seed = int(re.search(advice, str(refused.value))[1])
    assert valid_queries(build_from_folders(data, split_seed=seed)) == 2


def test_people_of_a_given_validation_split_need_two_images(tmp_path):
    data = folders(tmp_path, [(p, c) for p in range(1, 9) for c in (1, 2)])
    folders(tmp_path, [(20, 1), (21, 1)], split="val")
    with pytest.raises(
        UserError, match=r"none of the 2 validation .* second image of people in val"
    ):
        build_from_folders(data)
    folders(tmp_path, [(20, 2), (20, 2)], split="val")
    assert valid_queries(build_from_folders(data)) == 2


def test_a_single_validation_person_is_noted(tmp_path):
    data = folders(tmp_path, [(p, c) for p in range(1, 9) for c in (1, 2)])
    experiment = build_from_folders(data, val_fraction=0.1)
    assert "validation shows one person" in experiment.manifest.notes[-1]


def test_junk_and_distractors_of_a_given_split_are_not_people(tmp_path):
    images = [("train", p, c) for p in (1, 2, 3, 0, -1) for c in (1, 2)]
    images += [("val", p, c) for p in (8, 9, 0, -1, "") for c in (1, 2)]
    lines = ["path,split,person,camera"]
    for number, (split, person, camera) in enumerate(images):
        Image.new("RGB", (8, 16)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{split},{person},{camera}")
    (tmp_path / "set.csv").write_text("\n".join(lines) + "\n")
    experiment = build_from_folders(tmp_path / "set.csv")
    assert {*experiment.labels["train"].person_ids} == {1, 2, 3}
    assert {*experiment.labels["val"].person_ids} == {8, 9}
    assert any(
        note.endswith("in train and val, left out: 10") for note in experiment.manifest.notes
    )


def test_a_run_of_an_earlier_version_resumes_and_one_of_other_settings_is_refused(
    annotated, tmp_path
):
    """A setting that came later counts as its default. The check starts no worker."""
    flags = ("--data", str(annotated), "--output", str(tmp_path / "run"), "--layout", "trento")
    config = parse_arguments(TrainReidConfig, [*flags, "--batch.people", "4"]).config
    experiment = build_experiment(config)
    settings = resume_settings(experiment.config, experiment.manifest.fingerprint)
    del settings["validation"]["protocol"], settings["strict"], settings["max_bad"]
    del settings["optimizer"]["schedule"], settings["loss"]["mining"]
    del settings["network"]["dropout"]
    place = tmp_path / "run" / "checkpoints" / "checkpoint_2026-05-01_10-01-00.0"
    place.mkdir(parents=True)
    for name in FILES:
        (place / name).touch()
    state = {"standing": {}, "settings": settings}
    (place / "state.json").write_text(json.dumps(state))
    write_checksums(place)
    run = RunDirectory.from_uri(str(tmp_path / "run"))
    repair_checkpoint_list(run.location)
    assert build_experiment(config, run).config == experiment.config
    longer = replace(config, epochs=config.epochs + 1)
    with pytest.raises(UserError, match=f"with epochs = {config.epochs}, not {longer.epochs}"):
        build_experiment(longer, run)
    stepwise = replace(config, optimizer=replace(config.optimizer, schedule="step"))
    with pytest.raises(UserError, match=r"with optimizer\.schedule = 'cosine', not 'step'"):
        build_experiment(stepwise, run)
    dropped = replace(config, network=config.network.replace(dropout=0.5))
    with pytest.raises(UserError, match=r"with network\.dropout = 0\.0, not 0\.5"):
        build_experiment(dropped, run)
    with pytest.raises(UserError, match="resume the run without `auto_batch`"):
        build_experiment(replace(config, auto_batch=True), run)


def test_the_check_of_a_network_makes_no_classifier_of_all_people():
    """One of a million people and 512 features takes 2 GB."""
    fields = {"num_people": 1_000_000, "schema": AttributeSchema(), "num_cameras": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = NetworkConfig(name="baseline", height=32, width=16)
    _, architecture = resolve_network(config, "reid", fields)
    assert architecture.num_people == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_labels_of_all_images_leave_memory_once_those_that_decode_are_known(tmp_path):
    data = write_person_folders(tmp_path / "data", 8)
    (data / "1" / "0001_c1_0.png").write_bytes(b"no image")
    experiment = reid_experiment(data, "--max-bad", "0.5")
    of_all = weakref.ref(experiment.labels["train"])
    count = sum(map(len, experiment.labels.values()))
    decoded = decode_images(experiment, SingleProcess())
    del experiment
    assert of_all() is None
    assert sum(map(len, decoded.experiment.labels.values())) == count - 1
