"""Paths in compressed blocks are the paths of their column."""

import pickle

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.ingest.compressed_paths import CompressedPaths

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=9)


@given(st.lists(st.none() | texts, max_size=150), st.integers(0, 7))
def test_each_path_is_found_by_its_number(column, seed):
    paths = CompressedPaths.from_column(pa.array(column, pa.large_string()))
    expected = [text or "" for text in column]
    assert list(paths) == expected
    assert len(paths) == len(column)
    numbers = np.random.default_rng(seed).integers(0, len(column), 40 if column else 0)
    assert paths.take(numbers) == [expected[number] for number in numbers]


def test_paths_of_people_take_a_fraction_of_their_bytes():
    names = [f"crops/{n // 20:08}/{n // 20:08}_{n % 20:06}_c{n % 6}s1.jpg" for n in range(100_000)]
    column = pa.chunked_array([names[:70_001], names[70_001:]])
    paths = CompressedPaths.from_column(column)
    assert paths.take(np.array([99_999, 70_001, 0])) == [names[99_999], names[70_001], names[0]]
    assert len(pickle.dumps(paths)) < column.nbytes / 3
