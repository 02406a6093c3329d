"""Merge normalisations into the convolutions before them, for inference."""

from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(convolution: Any, normalisation: Any) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that computes both layers, and an identity for the normalisation."""
    return fuse_conv_bn_eval(convolution, normalisation), nn.Identity()


def fold_sequences(network: nn.Module) -> None:
    """Fold each batch normalisation that follows a convolution in a `Sequential` of a network."""
    for sequence in list(network.modules()):
        if isinstance(sequence, nn.Sequential):
            for index, (layer, next_layer) in enumerate(pairwise(list(sequence))):
                if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                    sequence[index], sequence[index + 1] = fold(layer, next_layer)
