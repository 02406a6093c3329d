"""A training reads the weights that it starts from once, before Ray, and reports what they fill."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from support.plugin_networks import registered_network
from support.training_folders import reid_experiment, write_person_folders
from torch import nn

from reidray.config import NetworkConfig, NetworkOptions
from reidray.config.tuning import TuneConfig
from reidray.errors import UserError
from reidray.models import (
    ModelCard,
    Network,
    Outputs,
    build_model,
    save_model,
)
from reidray.models.factory import build_architecture, build_network
from reidray.models.networks.network import IMAGENET_SCALING
from reidray.models.weights import load_weights
from reidray.training.first_weights import read_weights_report
from reidray.training.orchestration import start_run
from reidray.training.train import check_training_inputs
from reidray.tuning.search_space import with_values
from reidray.tuning.sweep import prepare_sweep

FLAGS = (
    *("--network.name", "baseline", "--network.backbone", "resnet_tiny"),
    *("--network.height", "32", "--network.width", "16", "--batch.people", "2"),
    *("--batch.crops", "2", "--val-fraction", "0.3"),
)


@pytest.fixture
def people(tmp_path):
    """Seven people in folders."""
    return write_person_folders(tmp_path / "data", 7)


@pytest.fixture
def backbone(tmp_path):
    """Weights of the backbone alone, in a file."""
    file = tmp_path / "backbone.safetensors"
    torch.manual_seed(3)
    donor = build_model("baseline", backbone="resnet_tiny", num_people=4)
    save_file(donor.backbone.body.state_dict(), file)
    return file, donor


def prepare(people, weights, *flags):
    return reid_experiment(people, *FLAGS, "--network.weights", str(weights), *flags)


def start_network(experiment):
    """The network of a worker before its first step."""
    torch.manual_seed(experiment.config.seed)
    return build_network(experiment.architecture)


def test_workers_get_the_weights_and_need_no_file(people, backbone, tmp_path):
    file, donor = backbone
    experiment = prepare(people, file)
    file.unlink()
    source = experiment.weights.source_of(experiment.config, experiment.architecture)
    kernel = source.tensors()["layer4.0.conv1.weight"]
    assert torch.equal(kernel, donor.backbone.body.layer4[0].conv1.weight)
    again = experiment.with_config(replace(experiment.config, epochs=3))
    assert again.weights.report == experiment.weights.report
    assert not (tmp_path / "run").exists()


def test_the_run_directory_holds_the_report(people, backbone):
    experiment = prepare(people, backbone[0])
    start_run(experiment)
    report = json.loads((experiment.run.folder / "weights.json").read_text())
    assert report["match"] == 1
    assert report["network_names"] == "backbone.body.*"
    assert read_weights_report(experiment.run.location) == experiment.weights.report
    (experiment.run.folder / "weights.json").write_text('{"match": 1}')
    assert read_weights_report(experiment.run.location) is None


def test_random_weights_leave_no_report(people):
    experiment = reid_experiment(people, *FLAGS)
    assert experiment.weights.report is None
    assert experiment.weights.source_of(experiment.config, experiment.architecture) is None


def test_the_least_share_is_a_flag_and_refuses_a_poor_match(people, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file(build_model("baseline", backbone="resnet_small").backbone.body.state_dict(), file)
    message = r"--network.weights .*other.safetensors: .*--network.weights-min-match asks for 90%"
    with pytest.raises(UserError, match=message) as caught:
        prepare(people, file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    loose = prepare(people, file, "--network.weights-min-match", "0.001")
    assert 0 < loose.weights.report.match < 0.9
    with pytest.raises(ValueError, match=r"`network.weights_min_match` must lie in 0\.\.1"):
        NetworkConfig(weights_min_match=1.1)


def test_a_model_directory_starts_a_training_on_other_people(people, tmp_path):
    settings = {"backbone": "resnet_tiny", "height": 32, "width": 16, "num_people": 3}
    architecture = build_architecture("baseline", **settings)
    donor = build_network(architecture)
    (tmp_path / "donor" / "model").mkdir(parents=True)
    save_model(
        tmp_path / "donor" / "model", donor, architecture, ModelCard(metric="cosine"), "# A\n"
    )
    report = prepare(people, tmp_path / "donor" / "model").weights.report
    assert (report.kind, report.match) == ("model directory", 1)
    assert [note.name for note in report.missing] == ["identity.weight"]
    with pytest.raises(UserError, match=r"is a run directory: give .*donor/model"):
        prepare(people, tmp_path / "donor")
    weights = tmp_path / "donor" / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        prepare(people, weights.parent)


@dataclass(frozen=True, kw_only=True)
class RampOptions(NetworkOptions):
    """Options of `ramp`."""

    predicts: ClassVar = ("identity",)
    pretrained: ClassVar = True


class RampNetwork(Network):
    """A network of a plugin, which has ImageNet weights: a ramp."""

    def __init__(self, architecture, weights):
        super().__init__(IMAGENET_SCALING, embedding_size=4)
        self.backbone = nn.Linear(3, 4)
        self.identity = nn.Linear(4, architecture.num_people)
        if weights == "imagenet":
            nn.init.zeros_(self.backbone.bias)
            self.backbone.weight.data = torch.arange(12.0).reshape(4, 3)

    def forward(self, crops):
        embedding = self.backbone(self.scale(crops).mean(dim=(2, 3)))
        return Outputs(embedding, embedding, self.identity(embedding), ())


@pytest.fixture
def ramp():
    """The name of a network that a plugin registers."""
    with registered_network("ramp", RampOptions, RampNetwork) as name:
        yield name


def test_the_builder_of_a_network_gives_imagenet_weights_once_for_all_workers(people, ramp):
    flags = ("--network.name", ramp, "--batch.people", "2", "--batch.crops", "2")
    experiment = reid_experiment(people, *flags, "--network.weights", "imagenet")
    assert (experiment.weights.report.kind, experiment.weights.report.match) == ("imagenet", 1)
    source = experiment.weights.source_of(experiment.config, experiment.architecture)
    network = start_network(experiment)
    load_weights(network, source)
    assert torch.equal(network.backbone.weight, torch.arange(12.0).reshape(4, 3))
    assert torch.equal(network.identity.weight, start_network(experiment).identity.weight)


def test_a_sweep_reads_the_weights_of_all_its_trials_before_they_start(people, backbone, tmp_path):
    file, _ = backbone
    base = tmp_path / "base.yaml"
    base.write_text(
        "network: {name: baseline, backbone: resnet_tiny, height: 32, width: 16}\n"
        "batch: {people: 2, crops: 2}\n"
    )
    space = tmp_path / "space.yaml"
    space.write_text(f"network.weights: {{choice: [none, {file}]}}\n")
    config = TuneConfig(
        data=str(people),
        recipe="market_small",
        base=str(base),
        space=(str(space),),
        output=str(tmp_path / "sweep"),
    )
    experiment = prepare_sweep(config).experiment
    file.unlink()
    assert [*experiment.weights.sources] == [str(file)]
    trial = experiment.with_config(with_values(experiment.config, {"network.weights": str(file)}))
    assert trial.weights.report.match == 1


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("vgg_triplet_rgb", "starts from random weights"),
        ("reid_small", "backbone resnet_tiny has no ImageNet weights"),
    ],
)
def test_imagenet_needs_a_backbone_that_has_such_weights(people, network, reason):
    with pytest.raises(UserError, match=reason):
        reid_experiment(people, "--network.name", network, "--network.weights", "imagenet")


def test_bad_weights_are_named_before_pytorch_loads_unless_a_run_resumes(people, tmp_path):
    config = reid_experiment(people, *FLAGS).config
    gone = replace(config, network=config.network.replace(weights="gone.pth"))
    with pytest.raises(UserError, match=rf"`network.weights` {Path.cwd()}/gone.pth: no such file"):
        check_training_inputs(gone)
    check_training_inputs(gone, resumes=True)
    for data, reason in (
        (b"", "is empty, it has 0 bytes"),
        (b"my notes", "is neither safetensors nor a file of torch.save"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00{}", "cannot be read as safetensors"),
        (b"PK\x03\x04 half", "is a file of torch.save and its end is missing"),
    ):
        file = tmp_path / ("a.safetensors" if b"{" in data else "a.pth")
        file.write_bytes(data)
        bad = replace(config, network=config.network.replace(weights=str(file)))
        with pytest.raises(UserError, match=f"`network.weights` {file}: {reason}"):
            check_training_inputs(bad)
    for name in ("hf-hub:org/name", "timm/resnet50.a1_in1k", "imagenet", "none"):
        check_training_inputs(replace(config, network=config.network.replace(weights=name)))
