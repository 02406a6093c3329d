"""Build networks, and save and load trained ones. Nothing here imports Ray."""

from reidray.models.architecture import Architecture
from reidray.models.directory import (
    LoadedModel,
    ModelCard,
    load_model,
    load_person_model,
    save_model,
)
from reidray.models.factory import (
    NETWORKS,
    build_architecture,
    build_model,
    build_network,
    register_network,
)
from reidray.models.networks import Network, Outputs, PetOutputs

__all__ = [
    "NETWORKS",
    "Architecture",
    "LoadedModel",
    "ModelCard",
    "Network",
    "Outputs",
    "PetOutputs",
    "build_architecture",
    "build_model",
    "build_network",
    "load_model",
    "load_person_model",
    "register_network",
    "save_model",
]
