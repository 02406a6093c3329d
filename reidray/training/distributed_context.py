"""Identify a training process among its peers, and exchange values with them."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class DistributedContext:
    """Identify one training process, by default the only one.

    Attributes:
        rank: number of the process, from 0.
        world_size: number of processes that train together.
        device: device of the process.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gather_for_metrics(self, part: Tensor, total: int) -> Tensor:
        """Join the results of all ranks for `total` images; rank r has r, r + world_size, ...

        Args:
            part: (n, ...) results of this rank.
            total: number of images of all ranks.

        Returns:
            (total, ...) in the order of the images.
        """
        if self.world_size == 1:
            return part
        longest = -(-total // self.world_size)
        padded = part.new_zeros((longest, *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        distributed.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:total]

    def gather_batch(self, part: Tensor) -> Tensor:
        """Join the equally large parts of a batch that the ranks hold, in the order of the ranks.

        Gradients flow to this rank's own part. If each rank computes a loss on the whole batch and
        DDP averages the gradients, the gradient is that of one process.

        Args:
            part: (b, ...) this rank's part.

        Returns:
            (world_size * b, ...) the whole batch.
        """
        if self.world_size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.world_size)]
        distributed.all_gather(parts, part.detach().contiguous())
        if part.requires_grad:
            # The same value with a gradient times `world_size`, as DDP divides gradients by it.
            parts[self.rank] = part.detach() + (part - part.detach()) * self.world_size
        return torch.cat(parts)
