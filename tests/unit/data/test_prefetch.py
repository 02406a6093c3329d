import threading
import time
from contextlib import closing
from itertools import count

import pytest

from reidray.data.prefetch import prefetch


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
        time.sleep(0.2)
        assert len(made) == 5


def test_an_error_is_raised_at_the_item_that_caused_it():
    def items():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
