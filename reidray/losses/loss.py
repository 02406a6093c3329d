"""Define the interface of a loss, and register losses by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reidray.config.sections.loss_options import LOSS_OPTIONS, LossOptions
from reidray.errors import UserError
from reidray.models.networks.network import Outputs
from reidray.registry import Registry


@dataclass(frozen=True)
class Targets:
    """Hold the labels of a batch.

    Attributes:
        person_indices: (B,) int64, indices of the training people; empty in a multi-task training.
        labels: (B, A) int64, -1 where unknown: labels of the attributes, or of the class.
        masks: (B, H, W) uint8, 1 on the foreground; None where the training has no masks.
    """

    person_indices: Tensor
    labels: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class LossSizes:
    """Hold the sizes that the weights of a loss depend on.

    Attributes:
        num_people: training people; 0 in a multi-task training.
        embedding_size: length of the embedding; 0 where the network gives none.
        metric_size: length of the metric feature where it is not that of the embedding.
    """

    num_people: int
    embedding_size: int
    metric_size: int = 0

    @property
    def known_embedding_size(self) -> int:
        """Return the length of the embedding, for a loss with weights or a state of that length.

        Raises:
            UserError: the network does not state it.
        """
        if not self.embedding_size:
            raise UserError(
                "the network states no `embedding_size`, which a loss with weights of its own "
                "needs: give it to `Network.__init__`"
            )
        return self.embedding_size


LOSSES: Registry[type[nn.Module]] = Registry("loss", "reidray.losses", options=LOSS_OPTIONS)
"""The module of each loss by the loss's name."""

register_loss = LOSSES.register
"""Register a module as a loss under a name.

The module takes the options of the loss and `LossSizes`. Its `forward` takes the outputs of a
network and `Targets`, and returns a () float32 tensor, or None where the network predicts nothing
that the loss could compare. Weights of the module train with those of the network.
"""


def build_losses(options: Mapping[str, LossOptions], sizes: LossSizes) -> nn.ModuleDict:
    """Build the losses of a training.

    A loss over a head of the network is built at weight 0 too: DDP expects a gradient of every
    weight of the network.

    Args:
        options: options of each loss by its name.
        sizes: sizes of the network's outputs.
    """
    built: dict[str, Any] = {
        name: LOSSES.get(name)(own, sizes)
        for name, own in options.items()
        if own.weight > 0 or own.trains_head
    }
    return nn.ModuleDict(built)


def attach_losses(network: nn.Module, options: Mapping[str, LossOptions], sizes: LossSizes) -> None:
    """Make the losses of a training a part of the network, so that their weights train too.

    Args:
        network: the network.
        options: options of each loss by its name.
        sizes: sizes of the network's outputs.
    """
    network.losses = build_losses(options, sizes)


def loss_modules(network: nn.Module) -> Mapping[str, nn.Module]:
    """Return the losses that `attach_losses` gave a network, by name.

    Args:
        network: the network, or modules around it such as DDP, each of which holds the next one
            as `module`.
    """
    holder: Any = network
    while not hasattr(holder, "losses"):
        holder = holder.module
    return dict(holder.losses.items())


def compute_loss(loss: nn.Module, outputs: Outputs, targets: Targets) -> Tensor | None:
    """Return the loss of the outputs of a network, with those of parts of the images.

    The loss of the whole images counts half, and the mean of the losses of the parts the other half
    (He et al. 2021). A loss that has weights or a state has them for the whole images alone.

    Args:
        loss: a module of `loss_modules`.
        outputs: outputs for a batch.
        targets: labels of the batch.

    Returns:
        () float32; None where the network predicts nothing that the loss could compare.
    """
    value: Tensor | None = loss(outputs, targets)
    if value is None or not outputs.parts or _has_state(loss):
        return value
    parts = torch.stack([loss(part, targets) for part in outputs.parts])
    return (value + parts.mean()) / 2


def _has_state(loss: nn.Module) -> bool:
    """Return whether a loss has weights or buffers."""
    return any(True for _ in loss.parameters()) or any(True for _ in loss.buffers())


def without_losses(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network without those of its losses."""
    return {name: value for name, value in weights.items() if not name.startswith("losses.")}
