"""Where a training process stands among its peers, and what they tell each other."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class DistributedContext:
    """One training process.

    Attributes:
        rank: from 0; rank 0 speaks for all.
        world_size: how many processes train together.
        device: where this one computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Tell whether this is rank 0."""
        return self.rank == 0

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather_for_metrics(self, part: Tensor, total: int) -> Tensor:
        """Join what each rank computed of `total` rows, of which rank r held r, r + world, ...

        Args:
            part: (n, ...) this rank's rows.
            total: rows of all ranks.

        Returns:
            (total, ...) in the order of the rows.
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
        """Join the parts of a batch that the ranks hold, of the same shape, in the order of ranks.

        Gradients flow to this rank's own part. A loss that each rank takes of the whole, averaged
        as DDP averages gradients, so has the gradient that it has in one process.

        Args:
            part: (b, ...) this rank's part.

        Returns:
            (world * b, ...) the whole batch.
        """
        if self.world_size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.world_size)]
        distributed.all_gather(parts, part.detach().contiguous())
        if part.requires_grad:
            # The same value, with a gradient as large as the mean over the ranks makes it small.
            parts[self.rank] = part.detach() + (part - part.detach()) * self.world_size
        return torch.cat(parts)
