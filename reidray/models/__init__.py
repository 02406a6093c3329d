"""Networks, and the directory a trained one travels in. Nothing here imports Ray."""

from reidray.models.directory import (
    LoadedModel,
    ModelCard,
    load_model,
    load_person_model,
    save_model,
)
from reidray.models.networks import Network, Outputs, PetOutputs
from reidray.models.registry import NETWORKS, NetworkSpec, build_model, describe_network

__all__ = [
    "NETWORKS",
    "LoadedModel",
    "ModelCard",
    "Network",
    "NetworkSpec",
    "Outputs",
    "PetOutputs",
    "build_model",
    "describe_network",
    "load_model",
    "load_person_model",
    "save_model",
]
