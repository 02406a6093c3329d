"""Make batches in a thread while the network computes on earlier ones."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
CPU = torch.device("cpu")


def prefetch(
    items: Iterator[Item], count: int = 2, *, device: torch.device = CPU
) -> Generator[Item, None, None]:
    """Yield the items of an iterator, which a thread computes up to `count` items in advance.

    The generator raises the errors of the iterator at the item that caused them. Close the
    generator to stop early.

    On a GPU the thread computes on a stream of its own. The stream of the consumer waits for an
    item where it takes it, and the host does not.

    Args:
        items: items that hold tensors, such as batches.
        count: items that are computed in advance.
        device: device of the tensors.
    """
    if device.type == "cuda":
        return _prefetch_on_stream(items, count, device)
    return _prefetch_in_thread(items, count)


def iter_tensors(item: object) -> Iterator[Tensor]:
    """Yield the tensors in an item: a tensor, or a dataclass or a collection that holds some."""
    if isinstance(item, Tensor):
        yield item
        return
    parts: list[object] = []
    if is_dataclass(item):
        parts = [getattr(item, field.name) for field in fields(item)]
    elif isinstance(item, Mapping):
        parts = list(item.values())
    elif isinstance(item, list | tuple):
        parts = list(item)
    for part in parts:
        yield from iter_tensors(part)


def _prefetch_in_thread(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_use_one_core).result()
        torch.set_num_threads(threads)  # threads that start later would otherwise use one core
        pending = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, items, None))
            yield item


def _prefetch_on_stream(
    items: Iterator[Item], count: int, device: torch.device
) -> Generator[Item, None, None]:
    """Prefetch items whose tensors a GPU computes beside the work of the consumer."""
    stream = _input_stream(device)
    # What the items read, such as crops on the GPU, may still be on its way there.
    stream.wait_stream(torch.cuda.current_stream(device))
    with closing(_prefetch_in_thread(_compute_on(stream, items), count)) as computed:
        for item, ready in computed:
            consumer = torch.cuda.current_stream(device)
            consumer.wait_event(ready)
            for tensor in iter_tensors(item):
                if tensor.is_cuda:
                    # Its memory must not be given to a later item before the consumer has read it.
                    tensor.record_stream(consumer)
            yield item


def _compute_on(
    stream: torch.cuda.Stream, items: Iterator[Item]
) -> Iterator[tuple[Item, torch.cuda.Event]]:
    """Yield each item, computed on a stream, with the event that its tensors are ready."""
    while True:
        with torch.cuda.stream(stream):
            item = next(items, None)
            ready = stream.record_event()
        if item is None:
            return
        yield item, ready


@cache
def _input_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of the input, one in each process: memory is kept stream by stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _use_one_core() -> None:
    """Let PyTorch use one core in this thread.

    Batches are copied, and to wake another core takes longer than a copy.
    """
    torch.get_num_threads()  # the first call gives this thread a number of its own
    torch.set_num_threads(1)
