"""A search in parts against a search of the whole gallery."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.retrieval import DISTANCE_METRICS, top_k
from reidray.retrieval.array_inputs import InvalidRowError
from reidray.retrieval.neighbours import Neighbours, merge_neighbours
from reidray.retrieval.partitioned_search import PartitionedSearch, top_k_from_parts


def lists(features):
    flat = pa.array(np.ascontiguousarray(features).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, features.shape[1])


def assert_same(search, best, gallery):
    expected = top_k(search.query, gallery, search.k, metric=search.metric)
    found = best.to_distances(search.metric)
    assert (found[1] == expected[1]).all()
    assert (found[0] == expected[0]).all()


@st.composite
def split_galleries(draw):
    """Draw a query and a gallery in parts, some of them empty, with frequent ties.

    Some parts are so large that their features are scaled, and others beside them are not.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, values = draw(st.integers(1, 120)), draw(st.integers(1, 6))
    query = random.integers(-2, 3, size=(draw(st.integers(1, 6)), values))
    gallery = random.integers(-2, 3, size=(images, values)).astype(np.float32)
    cuts = sorted(draw(st.lists(st.integers(0, images), max_size=8)))
    parts = np.split(gallery, cuts)
    for part in parts:
        part *= draw(st.sampled_from([1, 1, 0.5, 2.0**45]))
    return query.astype(np.float32), parts


@given(
    split_galleries(),
    st.integers(1, 150),
    st.sampled_from(sorted(DISTANCE_METRICS)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_results_have_the_same_bits_for_any_split_and_order_of_the_parts(split, k, metric, random):
    query, parts = split
    search = PartitionedSearch(query, k, metric, memory_mb=64)
    first, found = 0, [search.empty()]
    for part in parts:
        best, images = search.search_arrays([lists(part)])
        assert images == len(part)
        found.append(best.shift(first))
        first += images
    random.shuffle(found)
    best = search.empty()
    for one in found:
        best = merge_neighbours([best, one], k)
    assert_same(search, best, np.concatenate(parts))
    middle = random.randint(1, len(found))
    branches = [merge_neighbours(half, k) for half in (found[:middle], found[middle:]) if half]
    for other in (merge_neighbours(found, k), merge_neighbours(branches[::-1], k)):
        assert (other.keys == best.keys).all()
        assert (other.indices == best.indices).all()


@given(
    split_galleries(),
    st.integers(1, 60),
    st.sampled_from(sorted(DISTANCE_METRICS)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_images_found_before_limit_the_search_and_change_nothing(split, k, metric, random):
    query, parts = split
    search = PartitionedSearch(query, k, metric, memory_mb=64)
    gallery, rows = np.concatenate(parts), np.arange(sum(map(len, parts)))
    position = np.random.default_rng(random.randint(0, 99)).permutation(rows)
    pieces = [np.sort(piece) for piece in np.array_split(position, random.randint(1, 6))]
    best = search.empty()
    for piece in pieces:
        best = search.update(best, gallery[piece], piece)
    assert_same(search, best, gallery)


def test_nothing_is_looked_at_beyond_the_images_found_before():
    random = np.random.default_rng(4)
    query = random.normal(size=(5, 8)).astype(np.float32)
    search = PartitionedSearch(query, 3, "euclidean", memory_mb=64)
    near = search.update(search.empty(), np.repeat(query, 3, axis=0), 100)
    far = search.search_matrix(random.normal(size=(200, 8)) + 9, near)
    assert (far.indices == -1).all()
    assert np.isinf(far.keys).all()


@pytest.mark.parametrize("lengths", [[100], [1] * 100, [31, 2, 0, 60, 7], [33, 67]])
def test_arrays_of_any_length_are_searched_in_batches_that_fit_in_memory(lengths):
    random = np.random.default_rng(0)
    query, gallery = (random.normal(size=(n, 2048)).astype(np.float32) for n in (5, 100))
    gallery[40:60] = gallery[20:40]
    search = PartitionedSearch(query, 30, "euclidean", memory_mb=1)
    assert search.batch_size == 16
    arrays = [lists(part) for part in np.split(gallery, np.cumsum(lengths)[:-1])]
    best, images = search.search_arrays(arrays)
    assert images == 100
    assert_same(search, best, gallery)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_any_dtype_ranks_as_its_float32_values(dtype):
    random = np.random.default_rng(1)
    query = random.normal(size=(4, 8)).astype(np.float32)
    gallery = (random.normal(size=(50, 8)) * 10).astype(dtype)
    search = PartitionedSearch(query, 9, "l1", memory_mb=1)
    assert_same(search, search.search_arrays([lists(gallery)])[0], gallery.astype(np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_ranks_parts_as_the_cpu_does():
    random = np.random.default_rng(3)
    query, gallery = (random.normal(size=(n, 64)).astype(np.float32) for n in (20, 900))
    parts = [(np.arange(first, 900, 3), gallery[first::3]) for first in range(3)]
    on_cpu, on_gpu = (top_k_from_parts(query, parts, 9, device=name) for name in ("cpu", "cuda"))
    for one, other in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_with_equal_roots_are_not_ties():
    above = np.nextafter(1, 2)
    assert np.sqrt(above) == 1
    parts = [
        Neighbours(np.array([[key]]), np.array([[index]])) for key, index in ((above, 0), (1.0, 5))
    ]
    assert merge_neighbours(parts, 2).indices.tolist() == [[5, 0]]


def test_a_bad_row_is_counted_from_the_first_array():
    random = np.random.default_rng(2)
    parts = [random.normal(size=(n, 2048)).astype(np.float32) for n in (40, 30, 20)]
    parts[1][25, 7] = np.nan
    search = PartitionedSearch(parts[0][:3], 4, "cosine", memory_mb=1)
    with pytest.raises(InvalidRowError, match="`gallery` row 65 holds NaN"):
        search.search_arrays([lists(part) for part in parts])
    ragged = pa.array([[1.0] * 2048, [1.0] * 2047])
    with pytest.raises(
        InvalidRowError, match="`gallery` row 41 has 2047 values: expected the query's 2048"
    ):
        search.search_arrays([lists(parts[0]), ragged])
