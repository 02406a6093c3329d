"""Batches made in a thread while the network computes on those before."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], count: int = 2) -> Generator[Item, None, None]:
    """The items in their order, made in a thread that is at most `count` ahead.

    Close it to stop early. What making an item raises is raised where the item is asked for.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_compute_alone).result()
        torch.set_num_threads(threads)  # else threads that begin later would compute alone too
        waiting = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item


def _compute_alone() -> None:
    """Let this thread compute on one core.

    Batches are made by copying, and to wake another core for a copy takes longer than the copy.
    """
    torch.get_num_threads()  # the first call makes the number this thread's own
    torch.set_num_threads(1)
