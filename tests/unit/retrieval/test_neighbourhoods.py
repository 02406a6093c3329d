"""The re-ranking of a GPU, run on the CPU, against that of the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from reidray.retrieval import rerank
from reidray.retrieval.neighbourhoods.jaccard_distances import JaccardDistances
from reidray.retrieval.neighbourhoods.padded_rows import padded_neighbourhoods
from reidray.retrieval.neighbourhoods.sparse_rows import sparse_neighbourhoods
from reidray.retrieval.neighbourhoods.weighted_neighbourhoods import Neighbourhoods


class ReadsByTheHost(TorchDispatchMode):
    """Collect the names of operations that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if any(part in name for part in ("_local_scalar", "nonzero", "equal.", "unique")):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def nearest_and_distances(seed, images, k1):
    """Return the nearest images of each point among some in clusters, and all distances."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 1 + images // 8, images)[:, None] + 0.3 * rng.normal(size=(images, 3))
    points[rng.random(images) < 0.2] = points[0]  # copies
    squares = torch.from_numpy(np.square(points[:, None] - points).sum(axis=2))
    nearest = squares.argsort(dim=1, stable=True)[:, : k1 + 1].contiguous()
    return nearest, squares / squares.max()


@given(
    st.integers(0, 2**32),
    st.integers(8, 90),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from([0.01, 1.0, 64.0]),
)
@settings(max_examples=60)
def test_padded_rows_hold_what_sparse_rows_hold(seed, images, k1, k2, memory_mb):
    nearest, distances = nearest_and_distances(seed, images, k1)
    k2 = min(k1, k2)

    def relative(rows, columns):
        return distances[rows, columns]

    sparse = sparse_neighbourhoods(nearest, k1, k2, relative)
    padded = padded_neighbourhoods(nearest, k1, k2, relative, memory_mb)
    assert torch.equal(padded.rows, sparse.rows)
    assert torch.equal(padded.images, sparse.images)
    torch.testing.assert_close(padded.weights, sparse.weights, rtol=1e-14, atol=0)


@pytest.mark.parametrize("memory_mb", [0.01, 64])
def test_jaccard_distances_are_those_of_whole_matrices(memory_mb):
    rng = np.random.default_rng(0)
    whole = rng.random((60, 60)) * (rng.random((60, 60)) < 0.2) + np.eye(60)
    whole /= whole.sum(axis=1, keepdims=True)
    dense = torch.from_numpy(whole)
    rows, images = dense.nonzero().T.contiguous()
    found = Neighbourhoods(rows, images, dense[rows, images])
    minima = np.minimum(whole[:20, None], whole[None, 20:]).sum(axis=2)
    maxima = np.maximum(whole[:20, None], whole[None, 20:]).sum(axis=2)
    for fixed_point in (False, True):
        jaccard = JaccardDistances(found, 20, 40, memory_mb, fixed_point=fixed_point)
        with ReadsByTheHost() as reads:
            parts = [jaccard.of(slice(0, 7)), jaccard.of(slice(7, 20))]
        assert reads.names == []
        np.testing.assert_allclose(torch.cat(parts).numpy(), 1 - minima / maxima, atol=1e-14)


def test_ties_of_reranked_distances_go_to_the_lower_index():
    rng = np.random.default_rng(1)
    people = rng.normal(size=(12, 8)).astype(np.float32)
    gallery = people[rng.permutation(np.repeat(np.arange(12), 9))]
    query = people + np.float32(0.01)
    distances, indices = rerank(query, gallery, 40, k1=8, k2=3)
    every, order = rerank(query, gallery, len(gallery), k1=8, k2=3)
    assert (np.diff(distances, axis=1) >= 0).all()
    np.testing.assert_array_equal(indices, order[:, :40])
    np.testing.assert_array_equal(distances, every[:, :40])
    equal = np.diff(every, axis=1) == 0
    assert equal.sum() > 100
    assert (np.diff(order, axis=1)[equal] > 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_ranks_again_as_the_cpu_does():
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(40, 32))
    features = torch.from_numpy(centres[rng.integers(0, 40, 600)] + rng.normal(size=(600, 32)))
    query, gallery = features.float().split([100, 500])
    distances, indices = rerank(query, gallery, 20)
    again = [rerank(query.cuda(), gallery.cuda(), 20) for _ in range(2)]
    torch.testing.assert_close(again[0][0].cpu(), distances, rtol=1e-5, atol=1e-6)
    assert (again[0][1].cpu() == indices).float().mean() > 0.999
    assert torch.equal(again[0][0], again[1][0])
    assert torch.equal(again[0][1], again[1][1])
