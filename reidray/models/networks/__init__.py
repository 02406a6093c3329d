"""Whole networks: what they compute from a batch of crops."""

from reidray.models.networks.network import IMAGENET_MEAN, Network
from reidray.models.networks.outputs import Outputs, PetOutputs

__all__ = ["IMAGENET_MEAN", "Network", "Outputs", "PetOutputs"]
