"""Compute embeddings and predictions from batches of crops.

`reidray.models.factory` imports every module of this package to find a network by its name.
"""

from reidray.models.networks.network import IMAGENET_MEAN, Network, Outputs, PetOutputs

__all__ = ["IMAGENET_MEAN", "Network", "Outputs", "PetOutputs"]
