"""Save and load model directories. Loading one runs no code from it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from reidray.config.sections.network_options import NETWORK_OPTIONS
from reidray.errors import UserError
from reidray.models.architecture import Architecture
from reidray.models.factory import build_network, build_without_memory
from reidray.models.model_files import (
    FORMAT_VERSION,
    check_weights_hash,
    read_description,
    read_model_files,
)
from reidray.models.networks import Network
from reidray.registry import import_plugins
from reidray.storage.input_checks import DESCRIPTION_FILE, WEIGHTS_FILE
from reidray.storage.location import Location
from reidray.suggestions import quoted

CARD_FILE = "README.md"
EMBEDDING_METRICS = ("euclidean", "cosine")
MODEL_FILES = frozenset({WEIGHTS_FILE, DESCRIPTION_FILE, CARD_FILE})


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Hold facts about a trained model besides its weights.

    Attributes:
        metric: distance its embeddings were validated with.
        training_data: fingerprint of the manifest it was trained on.
        recipe: the full configuration of the run.
        metrics: metrics on the validation people.
    """

    metric: str
    training_data: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, dict) or not isinstance(self.metrics, dict):
            raise TypeError("recipe and metrics of a model card are dictionaries")


@dataclass(frozen=True)
class LoadedModel:
    """Hold a trained network and the facts about it.

    Attributes:
        model_id: identifier of weights and architecture, a hash over both files.
    """

    network: Network
    architecture: Architecture[Any]
    card: ModelCard
    model_id: str


def save_model(
    directory: Path, network: Network, architecture: Architecture[Any], card: ModelCard, page: str
) -> None:
    """Write a model into a folder of its own.

    Args:
        directory: an existing, empty folder.
        network: the trained network.
        architecture: the architecture that the network was built from.
        card: facts about the model.
        page: the model card as Markdown, for people.
    """
    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    data = save(weights)  # `save_file` makes a file that its owner alone may read
    (directory / WEIGHTS_FILE).write_bytes(data)
    description = {
        "format": FORMAT_VERSION,
        "weights_sha256": sha256(data).hexdigest(),
        "architecture": architecture.to_json(),
        "input": asdict(network.pixels),
        "card": asdict(card),
        "versions": {name: version(name) for name in ("reidray", "torch", "timm")},
    }
    (directory / DESCRIPTION_FILE).write_text(
        json.dumps(description, indent=2, sort_keys=True) + "\n"
    )
    (directory / CARD_FILE).write_text(page, encoding="utf-8")


def load_model(directory: str | Path, *, plugins: Sequence[str] = ()) -> LoadedModel:
    """Read a model directory.

    Args:
        directory: a local folder, or an `s3://` address.
        plugins: modules on the Python path that register a network of your own. A model directory
            never names modules to import.

    Raises:
        UserError: the directory is missing, damaged, of another version, or holds a pickle.
    """
    import_plugins(plugins)
    folder = Location(str(directory))
    files = read_model_files(folder)
    description = read_description(folder, files[DESCRIPTION_FILE])
    described, weights = folder.join(DESCRIPTION_FILE).uri, folder.join(WEIGHTS_FILE).uri
    _check_network_name(description, described)
    try:
        architecture = Architecture.from_json(description["architecture"])
        card = ModelCard(**description["card"])
        expected_hash = description["weights_sha256"]
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = error if isinstance(error, UserError) else repr(error)[:200]
        raise UserError(
            f"model {described} is damaged ({reason}): train or copy it again"
        ) from error
    check_weights_hash(folder, files[WEIGHTS_FILE], expected_hash)
    network = _build(architecture, files[WEIGHTS_FILE], weights)
    model_id = sha256(files[DESCRIPTION_FILE] + files[WEIGHTS_FILE]).hexdigest()[:16]
    return LoadedModel(network.eval(), architecture, card, model_id)


def _check_network_name(description: dict[str, Any], uri: str) -> None:
    """Check that a module has registered the network that a description names.

    Raises:
        UserError: no module has.
    """
    architecture = description.get("architecture")
    name = architecture.get("name") if isinstance(architecture, dict) else None
    if isinstance(name, str) and name not in NETWORK_OPTIONS:
        raise UserError(
            f"model {uri} has the network {quoted(name)}, which does not exist here: name the "
            "module that registers it in `plugins`, or update reidray"
        )


def load_person_model(directory: str | Path) -> LoadedModel:
    """Read the model directory of a network that embeds crops.

    Raises:
        UserError: `load_model` refuses the directory, or the network computes no embeddings.
    """
    model = load_model(directory)
    if not model.network.embedding_size:
        raise UserError(
            f"model {directory} gives no embedding: its network {model.architecture.name!r} "
            "recognises nobody; give one that jobs/train_reid.py trained"
        )
    if model.card.metric not in EMBEDDING_METRICS:
        raise UserError(
            f"model {directory} is damaged (metric {model.card.metric!r} is none of "
            f"{', '.join(EMBEDDING_METRICS)}): train or copy it again"
        )
    return model


def _build(architecture: Architecture[Any], weights: bytes, uri: str) -> Network:
    """Build the network of an architecture with weights that were read from `uri`.

    The network is built without memory first, as a damaged description may name any size.
    """
    try:
        tensors = load(weights)
        build_without_memory(architecture).load_state_dict(tensors, assign=True)
        network = build_network(architecture)
        network.load_state_dict(tensors)
    except (
        SafetensorError,
        RuntimeError,
        ArithmeticError,
        TypeError,
        ValueError,
        UserError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"model {uri} is not of the architecture in {DESCRIPTION_FILE} "
            f"({reason}): copy both again, or train it again where an earlier reidray wrote it"
        ) from error
    return network
