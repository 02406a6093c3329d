"""Average the weights of a network over the steps of its training."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reidray.training.distributed_context import running_statistics


class AveragedNetwork:
    """Hold a copy of a network whose weights are an exponential moving average.

    After n steps `average = d average + (1 - d) weights`, `d = min(decay, (1 + n) / (10 + n))`, so
    that the first weights do not linger. The means and variances of batch normalisations are
    averaged like the weights that they belong to. Other buffers are those of the network itself.

    Several processes have the same weights after each step, and so the same average. Each has the
    running statistics of its own images, in the network as in the average.

    Args:
        network: network that trains, on its device.
        decay: largest decay d.

    Attributes:
        network: the copy, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        sources: dict[str, Tensor] = dict(network.named_parameters())
        sources |= {
            name: network.get_buffer(name)
            for name in running_statistics(network)
            if network.get_buffer(name).is_floating_point()
        }
        averaged = {id(source) for source in sources.values()}
        shared = {id(each): each for each in network.buffers() if id(each) not in averaged}
        self.network = copy.deepcopy(network, shared).requires_grad_(False).eval()
        copies: dict[str, Tensor] = dict(self.network.named_parameters())
        copies |= dict(self.network.named_buffers())
        self._decay, self._names = decay, list(sources)
        self._sources = [source.detach() for source in sources.values()]
        self._averages = [copies[name].detach() for name in sources]

    def update(self, steps: int) -> None:
        """Add the weights after a step to the average, without waiting for the device.

        Args:
            steps: number of steps of the training so far.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._sources, 1 - decay)

    def restart(self) -> None:
        """Set the average to the weights of the network."""
        torch._foreach_copy_(self._averages, self._sources)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages by the names of the weights and statistics, on their device."""
        return dict(zip(self._names, self._averages, strict=True))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the averages that `tensors` returned.

        Raises:
            KeyError, RuntimeError: they are those of another network.
        """
        for name, average in self.tensors().items():
            average.copy_(tensors[name])
