"""The examples of extending reidray work together, as a module that `--plugins` names."""

import json
import os
import re
import subprocess
import sys

import pytest
from support.paths import ROOT
from support.readme_blocks import read_blocks

CHECK = """
import json, sys
from pathlib import Path
import torch
from reidray.cli.arguments import parse_arguments
from reidray.config import TrainReidConfig
from reidray.config.sections.open_section import config_to_dict

words = sys.argv[1:]
config = parse_arguments(TrainReidConfig, words).config

from reidray.config.sections.validation_options import compute_registered_metrics
from reidray.data.augmentations import augment, plan_augmentation
from reidray.losses import LossSizes, Targets, attach_losses, loss_modules
from reidray.metrics import evaluate
from reidray.models import ModelCard, load_model, save_model
from reidray.models.architecture import choose_architecture
from reidray.models.factory import build_network

network_config = config.network
architecture = choose_architecture("reid", "tiny", network_config.options, {"num_people": 4})
network = build_network(architecture)
attach_losses(network, config.loss.parts, LossSizes(4, network.embedding_size))
crops = torch.randint(0, 256, (8, 3, 128, 64), dtype=torch.uint8)
people = torch.arange(4).repeat(2)
targets = Targets(people, torch.zeros((8, 0), dtype=torch.int64))
plan = plan_augmentation(config.augment, 8, seed=0, epoch=0, step=0)
augmented = augment(crops, plan, fill=0)
losses = {name: loss(network(augmented), targets) for name, loss in loss_modules(network).items()}
embeddings = network(crops).embedding.detach()
query_ids, gallery_ids = people[:4].numpy(), people[4:].numpy()
ranking = evaluate(embeddings[:4], embeddings[4:], query_ids, gallery_ids, protocol="all")
folder = Path("model"); folder.mkdir()
plain = build_network(architecture)
save_model(folder, plain, architecture, ModelCard(metric="cosine"), "")
print(json.dumps({
    "settings": config_to_dict(config),
    "losses": sorted(name for name, value in losses.items() if value is not None),
    "grey": int((augmented.amax(dim=1) - augmented.amin(dim=1) < 1e-3).all(dim=2).all(dim=1).sum()),
    "metrics": compute_registered_metrics(ranking, "reid"),
    "loaded": load_model(folder).architecture == architecture,
    "better": config.validation.mode,
}))
"""
FLAGS = (
    *("--data", "-", "--plugins", "my_parts", "--network.name", "tiny", "--network.channels", "16"),
    *("--loss.contrastive.weight", "0.5", "--loss.contrastive.margin", "2", "--loss.triplet", "0"),
    *("--augment.greyscale", "1", "--validation.select-by", "rank20"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the examples of the README file as one module."""
    folder = tmp_path_factory.mktemp("parts")
    blocks = read_blocks(ROOT / "reidray" / "README.md")
    examples = [
        block.text for block in blocks if re.search(r"^@?register_(?!backbone)", block.text, re.M)
    ]
    assert len(examples) == 5
    (folder / "my_parts.py").write_text("\n\n".join(examples))
    return folder


def run(folder, code, *words):
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


RUN_PROGRAMS = """
import contextlib, io, json, sys, traceback

results = {}
for name, (program, *words) in json.loads(sys.argv[1]).items():
    sys.argv[1:], told = words, io.StringIO()
    with contextlib.redirect_stdout(told):
        try:
            exec(program, {"__name__": "__main__"})
        except SystemExit as exit:
            error = exit.code and f"exit {exit.code}"
        except BaseException:
            error = traceback.format_exc()
        else:
            error = None
    results[name] = told.getvalue(), error
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def outputs(folder):
    """What each program printed, and its error: all run in one process, which imports once."""
    programs = {
        "check": (CHECK, *FLAGS),
        "prototypes": (PROTOTYPES,),
        "imports": (IMPORTS,),
        "layout": (LAYOUT,),
        "named": (NAMED,),
    }
    done = run(folder, RUN_PROGRAMS, json.dumps(programs))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def printed(outputs, name):
    text, error = outputs[name]
    assert not error, error
    return text


def test_the_examples_register_parts_that_a_training_takes(outputs):
    found = json.loads(printed(outputs, "check").splitlines()[-1])
    assert found["settings"]["network"] == {"name": "tiny", "weights": "none", "channels": 16}
    assert found["settings"]["loss"]["contrastive"] == {"weight": 0.5, "margin": 2.0}
    assert found["settings"]["augment"]["greyscale"] == 1.0
    assert found["losses"] == ["contrastive", "identity"]
    assert found["grey"] == 8
    assert found["metrics"] == {"rank20": 1.0}
    assert found["loaded"]
    assert found["better"] == "max"


NAMED = """
import sys
from pathlib import Path
from reidray.cli.arguments import parse_arguments
from reidray.cli.main import main
from reidray.config import TrainReidConfig
from reidray.config.sections.network_options import NETWORK_OPTIONS

Path("run").mkdir()
for file in ("tiny.yaml", "run/config.yaml"):
    Path(file).write_text("plugins: [my_parts]\\nnetwork: {name: tiny}\\n")
words = ["--data", "-", "--network.channels", "16"]
for named in (["--config", "tiny.yaml"], ["--resume", "run"], ["--plugins=my_parts"]):
    config = parse_arguments(TrainReidConfig, [*words, *named]).config
    assert config.network.channels == 16
    del sys.modules["my_parts"], NETWORK_OPTIONS._entries["tiny"]
sys.argv = ["reidray", "train-reid", "--help", "--plugins", "my_parts"]
main()
"""


def test_a_file_a_run_or_a_flag_names_plugins(outputs):
    text = printed(outputs, "named")
    assert "--network.channels" in text
    assert "--loss.contrastive.margin" in text


LAYOUT = """
import sys
from pathlib import Path
import my_parts
from reidray.data.layouts import check_layout
for name in ("learn", "search", "wanted"):
    Path("station", name).mkdir(parents=True)
    Path("station", name, "0001_c1s1_000001_00.jpg").touch()
check_layout("station", "station")
check_layout("station")
print("recognised")
"""


def test_the_layout_of_the_examples_is_recognised(outputs):
    assert printed(outputs, "layout") == "recognised\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--plugins", "no_such_module"), "--plugins: module 'no_such_module' is not on the"),
        (("--plugins=no_such_module",), "--plugins: module 'no_such_module' is not on the Python"),
        (("--network.name", "tiny"), "network.name 'tiny' does not exist"),
        (("--network.chanels", "3"), "flag --network.chanels does not exist"),
        (("--loss.circel.weight", "1"), "flag --loss.circel.weight does not exist"),
    ],
)
def test_a_part_that_no_module_registers_is_refused(folder, words, complaint):
    code = (
        "import sys\n"
        "from reidray.cli.arguments import parse_arguments\n"
        "from reidray.config import TrainReidConfig\n"
        "from reidray.errors import UserError\n"
        "try:\n"
        "    parse_arguments(TrainReidConfig, ['--data', '-', *sys.argv[1:]])\n"
        "except UserError as error:\n"
        "    print(error)\n"
        "print('torch' in sys.modules)\n"
    )
    done = run(folder, code, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    message, with_torch = done.stdout.splitlines()
    assert complaint in message
    assert with_torch == "False"


def test_a_registered_name_is_not_taken_twice():
    from reidray.registry import Registry

    registry = Registry("colour")
    registry.register("red")(dict)
    registry.register("red")(dict)
    with pytest.raises(ValueError, match="colour 'red' is registered by"):
        registry.register("red")(list)


OPTIONS = """
from dataclasses import dataclass
from reidray.config import AugmentationOptions, LossOptions
from reidray.config import register_augmentation_options, register_loss_options

"""
FROZEN = "@dataclass(frozen=True, kw_only=True)\n"
LOSS = "class X(LossOptions):\n    "
AUGMENTATION = "class X(AugmentationOptions):\n    "


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (f"@register_loss_options('x')\n{LOSS}a: int = 1", "wrong.X is not a dataclass"),
        (f"@register_loss_options('x')\n{FROZEN}{LOSS}a: int", "wrong.X.a has no default"),
        (
            f"@register_loss_options('x')\n{FROZEN}{LOSS}a: list[int] = ()",
            "wrong.X.a has the type list[int]: expected int, float",
        ),
        (
            f"@register_loss_options('x')\n{FROZEN}{LOSS}a: float = 'b'",
            "the default of wrong.X.a 'b': expected a number",
        ),
        (
            f"@register_loss_options('triplet')\n{FROZEN}{LOSS}pass",
            "loss 'triplet' is registered by reidray.config.options.built_in_losses.Triplet",
        ),
        (
            f"@register_augmentation_options('x')\n{FROZEN}{AUGMENTATION}pass",
            "wrong.X has no field",
        ),
    ],
)
def test_wrong_options_of_a_plugin_are_named_when_it_is_imported(
    tmp_path, monkeypatch, code, complaint
):
    from reidray.registry import import_plugins

    (tmp_path / "wrong.py").write_text(OPTIONS + code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises((TypeError, ValueError), match=re.escape(complaint)):
        import_plugins(["wrong"])


def test_a_layout_cannot_take_the_name_of_another():
    from reidray.data.layouts.layout import register_layout
    from reidray.data.layouts.market1501 import MARKET1501, NamedFolders

    own = NamedFolders(NAME="market1501", EXPECTED="x/", folders={}, marks=frozenset())
    with pytest.raises(ValueError, match="layout 'market1501' is registered by NamedFolders"):
        register_layout(own)
    register_layout(MARKET1501, order=15)


def test_options_without_code_are_named():
    from reidray.errors import UserError
    from reidray.registry import Registry

    options = Registry("loss")
    options.add("own", dict)
    with pytest.raises(UserError, match=r"the options builtins.dict but no code"):
        Registry("loss", options=options).get("own")


PROTOTYPES = """
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from support.synthetic_people import CONFIG, build_network, build_task

from reidray.config import LossConfig, LossOptions, OptimizerConfig, register_loss_options
from reidray.losses import register_loss, without_losses
from reidray.training.loop import TrainerConfig, fit


@register_loss_options("prototypes")
@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(LossOptions):
    pass


@register_loss("prototypes")
class PrototypeLoss(nn.Module):
    def __init__(self, options, sizes):
        super().__init__()
        self.centres = nn.Parameter(torch.zeros(sizes.num_people, sizes.embedding_size))

    def forward(self, outputs, targets):
        return (outputs.embedding - self.centres[targets.person_indices]).square().mean()


class Silent:
    def on_train_start(self, records): pass
    def __getattr__(self, name): return lambda *values, **named: None


config = replace(CONFIG, loss=LossConfig(prototypes={"weight": 2.0}))
task, network = build_task(config), build_network()
before = [name for name, _ in network.named_parameters()]
plan = TrainerConfig(epochs=1, seed=0, optimizer=OptimizerConfig(), validation=config.validation)
state = fit(task, network, plan, Silent())
assert network.losses["prototypes"].centres.abs().max() > 0
assert "losses.prototypes.centres" in state.best_weights
build_network().load_state_dict(without_losses(state.best_weights))
assert [name for name, _ in build_network().named_parameters()] == before
print(list(state.trainer_state.records[0]))
"""


def test_the_weights_of_a_loss_train_and_stay_out_of_the_model(outputs):
    assert "loss_prototypes" in printed(outputs, "prototypes")


IMPORTS = """
import sys
import reidray.retrieval.partitioned_search
import reidray.training.orchestration
from reidray.metrics import *
print(*sorted({"torch", "ray", "sklearn", "matplotlib", "tensorboard"} & set(sys.modules)))
"""


def test_a_training_a_search_and_metrics_import_neither_ray_nor_what_only_reports_need(outputs):
    assert printed(outputs, "imports") == "torch\n"
