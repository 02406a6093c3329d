"""The networks, from a batch of crops to what they predict.

`reidray.models.factory` imports every module of this package to find a network by its name.
"""

from reidray.models.networks.network import IMAGENET_MEAN, Network, Outputs, PetOutputs

__all__ = ["IMAGENET_MEAN", "Network", "Outputs", "PetOutputs"]
