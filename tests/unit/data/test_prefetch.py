import threading
from contextlib import closing
from dataclasses import dataclass
from itertools import count

import pytest
import torch

from reidray.data.prefetch import iter_tensors, prefetch


def test_items_come_in_order_from_another_thread():
    here = threading.get_ident()
    items = list(prefetch((number, threading.get_ident()) for number in range(20)))
    assert [number for number, _ in items] == list(range(20))
    assert here not in {thread for _, thread in items}


def test_at_most_count_items_are_made_ahead():
    made = []
    with closing(prefetch((made.append(n) or n for n in count()), count=3)) as items:
        next(items)
        next(items)
    # Closing waits for the items that the thread was asked for.
    assert len(made) == 5


def test_an_error_is_raised_at_the_item_that_caused_it():
    def items():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)


def test_all_tensors_of_a_batch_are_found():
    @dataclass(frozen=True)
    class Batch:
        images: torch.Tensor
        masks: torch.Tensor | None
        targets: dict[str, list[torch.Tensor]]
        name: str

    one, two, three = (torch.tensor(number) for number in (1, 2, 3))
    batch = Batch(one, None, {"a": [two], "b": [three]}, "train")
    assert [int(tensor) for tensor in iter_tensors((batch, one))] == [1, 2, 3, 1]
