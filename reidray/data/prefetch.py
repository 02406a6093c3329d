"""Make batches in a thread while the network computes on earlier ones."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], count: int = 2) -> Generator[Item, None, None]:
    """Yield the items of an iterator, which a thread computes up to `count` items in advance.

    The generator raises the errors of the iterator at the item that caused them. Close the
    generator to stop early.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_use_one_core).result()
        torch.set_num_threads(threads)  # threads that start later would otherwise use one core
        pending = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, items, None))
            yield item


def _use_one_core() -> None:
    """Let PyTorch use one core in this thread.

    Batches are copied, and to wake another core takes longer than a copy.
    """
    torch.get_num_threads()  # the first call gives this thread a number of its own
    torch.set_num_threads(1)
