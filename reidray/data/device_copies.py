"""Copy tensors from main memory to a GPU while the host goes on, and back with one wait.

A GPU copies from pinned memory alone without the host. PyTorch's host allocator keeps the pinned
blocks that are freed, and gives one out again only when the copies from it are done. Batches thus
share a few blocks, nothing is pinned anew at each step, and nothing that is still copied is
overwritten. On other devices these functions copy as usual.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def host_array(shape: tuple[int, ...], device: torch.device) -> NDArray[np.uint8]:
    """Return an uninitialised uint8 array in main memory, pinned where `device` is a GPU."""
    if device.type != "cuda":
        return np.empty(shape, dtype=np.uint8)
    array: NDArray[np.uint8] = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return array


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device. The host does not wait for the copy to a GPU."""
    source = values.pin_memory() if device.type == "cuda" else values
    return source.to(device, non_blocking=True)


def copy_to_host(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies of tensors in main memory.

    The host waits once for a GPU, when all copies are on their way.

    Args:
        values: tensors by name, of any shapes and types.
    """
    copies = {
        name: torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda).copy_(
            value.detach(), non_blocking=value.is_cuda
        )
        for name, value in values.items()
    }
    for device in {value.device for value in values.values() if value.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return copies


def rows_to_device(
    rows: NDArray[Any], lengths: Sequence[int], device: torch.device
) -> Iterator[Tensor]:
    """Yield the rows of each batch on a device, in one copy for all batches.

    Args:
        rows: (N, ...) labels or positions of the crops of all batches, one after the other.
        lengths: number of crops of each batch, N together.
        device: device of the results, which are views of one block of memory.
    """
    on_device = to_device(torch.from_numpy(rows), device)
    first = 0
    for length in lengths:
        yield on_device[first : first + length]
        first += length


def to_device_together(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return tensors of the CPU on a device, in one copy.

    Args:
        values: tensors by name, of any shapes and types.
        device: device of the results, which are views of one block of memory.
    """
    # The widest type first, so that each tensor begins at a multiple of its element's size.
    names = sorted(values, key=lambda name: -values[name].element_size())
    parts = [values[name].reshape(-1).view(torch.uint8) for name in names]
    copied = to_device(torch.cat(parts), device).split_with_sizes([len(part) for part in parts])
    return {
        name: part.view(values[name].dtype).view(values[name].shape)
        for name, part in zip(names, copied, strict=True)
    }
