"""Networks, and the directory a trained one travels in. Nothing here imports Ray."""

from reidray.models.directory import (
    LoadedModel,
    ModelCard,
    load_model,
    load_person_model,
    save_model,
)
from reidray.models.networks import Network, Outputs, PetOutputs
from reidray.models.registry import NETWORKS, Architecture, build_architecture, build_model

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
    "load_model",
    "load_person_model",
    "save_model",
]
