"""Batches made in a thread while the network computes on those before."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def made_ahead(items: Iterator[Item], count: int = 2) -> Generator[Item, None, None]:
    """The items in their order, made in a thread that is at most `count` ahead.

    Close it to stop early. What making an item raises is raised where the item is asked for.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item
