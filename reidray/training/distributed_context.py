"""Identify a training process among its peers, and exchange values with them."""

from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

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

    @property
    def exchange_device(self) -> torch.device:
        """Return the device of the tensors that ranks exchange; NCCL refuses tensors on the CPU."""
        return self.device if distributed.get_backend() == "nccl" else torch.device("cpu")

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value, on every rank.

        The value is pickled, and every rank waits for it. Within an epoch, use `broadcast_values`.
        """
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.exchange_device)
        return values[0]

    def broadcast_values(self, *values: float) -> tuple[float, ...]:
        """Return rank 0's numbers on every rank, through one float64 tensor.

        Every rank gives the same number of values. Reading the result waits for a GPU.
        """
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.exchange_device)
        distributed.broadcast(tensor, src=0)
        return tuple(tensor.tolist())

    def sum_values(self, values: Tensor) -> Tensor:
        """Return the sums of the values (N,) of all ranks, on every rank."""
        if self.world_size == 1:
            return values
        summed = values.to(self.exchange_device, copy=True)
        distributed.all_reduce(summed)
        return summed

    def broadcast_statistics(self, network: nn.Module) -> None:
        """Give every rank the running statistics of rank 0, which are those that are saved."""
        if self.world_size > 1:
            for name in running_statistics(network):
                distributed.broadcast(network.get_buffer(name), src=0)

    def own_share(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this rank's images of a validation: r, r + world_size, ... of all (N,) images.

        A rank beyond the last image takes the first one, so that its results have a shape;
        `gather_for_metrics` leaves them out.
        """
        own = images[self.rank :: self.world_size]
        return own if len(own) else images[:1]

    def gather_for_metrics(self, part: Tensor, total: int) -> Tensor | None:
        """Join the results of all ranks for the `total` images that `own_share` divided.

        Args:
            part: (n, ...) results of this rank.
            total: number of images of all ranks.

        Returns:
            (total, ...) in the order of the images on rank 0; None on the others.
        """
        if self.world_size == 1:
            return part
        longest = -(-total // self.world_size)
        padded = part.new_zeros((longest, *part.shape[1:]), device=self.exchange_device)
        padded[: len(part)] = part
        if not self.is_main:
            distributed.gather(padded, dst=0)
            return None
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        distributed.gather(padded, parts, dst=0)
        return torch.stack(parts, dim=1).flatten(0, 1)[:total]

    def gather_batch(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Join the equally large parts of a batch that the ranks hold, in the order of the ranks.

        One collective carries all tensors, as bytes. Gradients flow to this rank's own part. If
        each rank computes a loss on the whole batch and DDP averages the gradients, the gradient is
        that of one process.

        Args:
            parts: (b, ...) each, this rank's part of several tensors.

        Returns:
            (world_size * b, ...) each, the whole batch.
        """
        if self.world_size == 1:
            return parts
        packed = [_to_bytes(part) for part in parts]
        own = torch.cat(packed, dim=1)
        whole = own.new_empty((self.world_size * len(own), own.shape[1]))
        distributed.all_gather_into_tensor(whole, own)
        ends = tuple(accumulate(each.shape[1] for each in packed))
        columns = whole.tensor_split(ends[:-1], dim=1)
        return tuple(
            self._with_own_gradient(_from_bytes(each, part), part)
            for each, part in zip(columns, parts, strict=True)
        )

    def _with_own_gradient(self, whole: Tensor, part: Tensor) -> Tensor:
        """Return the whole of a gathered tensor, where gradients flow to this rank's part."""
        if not part.requires_grad:
            return whole
        before, _, after = whole.tensor_split((self.rank * len(part), (self.rank + 1) * len(part)))
        # The same value with a gradient times `world_size`, as DDP divides gradients by it.
        own = part.detach() + (part - part.detach()) * self.world_size
        return torch.cat([before, own, after])


def running_statistics(network: nn.Module) -> list[str]:
    """Return the names of the buffers of a network's batch normalisations."""
    return [
        f"{layer}.{name}"
        for layer, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    ]


def synchronize_batch_norm(network: nn.Module) -> None:
    """Replace the batch normalisations inside a network by ones over the batches of all ranks.

    Weights and statistics stay the same tensors under the same names, so that checkpoints fit both
    networks. PyTorch's own function would drop the activation that some layers of timm include. In
    each layer PyTorch leaves out the ranks without images, for which the host waits for the GPU.
    """
    from timm.layers import convert_sync_batchnorm

    convert_sync_batchnorm(network)


def _to_bytes(part: Tensor) -> Tensor:
    """Return the bytes of each row of a tensor (b, ...) as (b, B) uint8."""
    return part.detach().reshape(len(part), -1).contiguous().view(torch.uint8)


def _from_bytes(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows of bytes (n, B) uint8 as a tensor (n, ...) of the type and shape of another."""
    return rows.contiguous().view(like.dtype).reshape(-1, *like.shape[1:])
