"""Make batches in a thread while the network computes on earlier ones."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], count: int = 2) -> Generator[Item, None, None]:
    """Yield items in their order, which a thread makes up to `count` items ahead.

    The generator raises the errors of the iterator at the item that caused them. Close the
    generator to stop early.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_use_one_core).result()
        torch.set_num_threads(threads)  # otherwise threads that start later use one core too
        waiting = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item


def _use_one_core() -> None:
    """Let PyTorch use one core in this thread.

    A batch is made by copying, and waking another core for a copy takes longer than the copy.
    """
    torch.get_num_threads()  # the first call makes the number this thread's own
    torch.set_num_threads(1)
