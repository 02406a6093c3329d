"""Batches that come early wait for those before them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reidray.inference.image_batches import BATCH_SIZE, BatchPredictions, ImageSet, plan_batches
from reidray.inference.predictions import PredictionShape
from reidray.inference.runs.embedding_table import in_order
from reidray.storage.location import Location


def made_results(count):
    paths = tuple(f"{number:04d}.jpg" for number in range(count))
    images = ImageSet("data", Location("/crops"), paths)
    shape = PredictionShape(2, 0)
    for batch in plan_batches(images, np.arange(count)):
        positions = np.arange(len(batch.paths))
        yield BatchPredictions(
            batch, (b"",) * len(positions), positions, shape.empty(len(positions)), {}, 0
        )


@given(st.permutations(range(5)), st.integers(1, 3))
def test_any_order_of_batches_becomes_the_order_of_the_paths(order, group):
    results = list(made_results(4 * BATCH_SIZE + 7))
    come = [results[number] for number in order]
    groups = [come[start : start + group] for start in range(0, len(come), group)]
    assert list(in_order(groups)) == results
