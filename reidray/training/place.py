"""Where a training process stands among its peers, and what they tell each other."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
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
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def from_leader(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather_rows(self, part: Tensor, total: int) -> Tensor:
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
