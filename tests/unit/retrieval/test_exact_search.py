"""`top_k` against a plain sort of float64 distances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidray.retrieval import DISTANCE_METRICS, top_k
from reidray.retrieval.search_algorithms import block_search


def distances(query, gallery, metric):
    query, gallery = query.astype(np.float64)[:, None], gallery.astype(np.float64)
    if metric == "l1":
        return np.abs(query - gallery).sum(-1)
    if metric == "euclidean":
        return np.sqrt(((query - gallery) ** 2).sum(-1))
    lengths = np.linalg.norm(query, axis=-1) * np.linalg.norm(gallery, axis=-1)
    return 1 - (query * gallery).sum(-1) / np.where(lengths == 0, 1, lengths)


def sorted_indices(query, gallery, k, metric):
    # Rounded: the reference's own last bits must not decide between equal distances.
    return distances(query, gallery, metric).round(12).argsort(axis=1, kind="stable")[:, :k]


@st.composite
def features(draw):
    """Draw features with few distinct values and dimensions, so that ties are frequent.

    The steps are powers of two, so that float64 holds the sums and equal distances are equal.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    images, values = draw(st.integers(1, 300)), draw(st.integers(1, 9))
    step = draw(st.sampled_from([1.0, 0.5, 2.0**-7]))
    query = random.integers(-2, 3, size=(draw(st.integers(1, 9)), values)) * step
    gallery = random.integers(-2, 3, size=(images, values)) * step
    return query.astype(np.float32), gallery.astype(np.float32)


@given(features(), st.integers(1, 400), st.sampled_from(sorted(DISTANCE_METRICS)))
@settings(max_examples=60)
def test_top_k_equals_sorting_float64_distances(both, k, metric):
    query, gallery = both
    found, indices = top_k(query, gallery, k, metric=metric)
    expected = sorted_indices(query, gallery, k, metric)
    assert indices.dtype == np.int64
    assert found.dtype == np.float32
    assert (indices == expected).all()
    reference = np.take_along_axis(distances(query, gallery, metric), expected, axis=1)
    np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("metric", sorted(DISTANCE_METRICS))
def test_top_k_has_the_same_bits_for_any_blocks_and_threads(metric, monkeypatch):
    random = np.random.default_rng(1)
    query = random.normal(size=(12, 300)).astype(np.float32)
    gallery = random.normal(size=(300, 300)).astype(np.float32)
    gallery[100:130] = gallery[3]
    gallery[200:230] = gallery[4] + np.float32(1e-7) * random.normal(size=(30, 300))
    query[:2] = gallery[3:5]
    whole = top_k(query, gallery, 50, metric=metric)
    threads = torch.get_num_threads()
    try:
        for rows, columns, count in ((1, 300, 1), (5, 64, 2), (12, 130, 1), (12, 29, 2)):
            monkeypatch.setattr(block_search, "MAX_ROWS", rows)
            monkeypatch.setattr(block_search, "MAX_COLUMNS", columns)
            torch.set_num_threads(count)
            blocks = top_k(query, gallery, 50, metric=metric)
            assert (blocks[0] == whole[0]).all()
            assert (blocks[1] == whole[1]).all()
    finally:
        torch.set_num_threads(threads)


def test_top_k_has_the_same_bits_for_any_memory():
    random = np.random.default_rng(2)
    query = random.normal(size=(100, 512)).astype(np.float32)
    gallery = random.normal(size=(2_000, 512)).astype(np.float32)
    small, large = (top_k(query, gallery, 10, memory_mb=size) for size in (1, 512))
    assert (small[0] == large[0]).all()
    assert (small[1] == large[1]).all()


def test_continuous_features_rank_as_float64_distances_do():
    random = np.random.default_rng(9)
    query, gallery = (random.normal(size=(n, 40)).astype(np.float32) for n in (30, 3000))
    for metric in DISTANCE_METRICS:
        _, indices = top_k(query, gallery, 25, metric=metric)
        assert (indices == distances(query, gallery, metric).argsort(axis=1)[:, :25]).all()


@given(features(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_permuting_the_gallery_changes_no_distance(both, random):
    query, gallery = both
    order = list(range(len(gallery)))
    random.shuffle(order)
    straight, _ = top_k(query, gallery, 20)
    shuffled, indices = top_k(query, gallery[order], 20)
    assert (straight == shuffled).all()
    np.testing.assert_allclose(
        np.take_along_axis(distances(query, gallery[order], "euclidean"), indices, axis=1),
        shuffled,
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize("size", [3e38, 1e25, 1e-25, 1e-38])
@pytest.mark.parametrize("metric", sorted(DISTANCE_METRICS))
def test_features_whose_squares_float32_cannot_hold(metric, size):
    random = np.random.default_rng(3)
    query, gallery = (random.uniform(-1, 1, size=(n, 5)) for n in (6, 40))
    query, gallery = ((side * size).astype(np.float32) for side in (query, gallery))
    _, indices = top_k(query, gallery, 40, metric=metric)
    scaled = query / np.float64(size), gallery / np.float64(size)
    assert (indices == sorted_indices(*scaled, 40, metric)).all()


@pytest.mark.parametrize("metric", ["euclidean", "l1"])
def test_values_that_scaling_turns_into_zeros_do_not_count_as_integers(metric, monkeypatch):
    random = np.random.default_rng(8)
    query, gallery = (random.normal(size=(n, 4)) * 1e-33 for n in (3, 7))
    expected = sorted_indices(query * 1e33, gallery[:6] * 1e33, 6, metric)
    gallery[6] = 1e13
    monkeypatch.setattr(block_search, "MAX_COLUMNS", 6)
    _, indices = top_k(query.astype(np.float32), gallery.astype(np.float32), 6, metric=metric)
    assert (indices == expected).all()


def test_tensors_give_tensors_and_numpy_gives_numpy():
    random = np.random.default_rng(4)
    query, gallery = random.normal(size=(3, 8)), random.normal(size=(20, 8))
    arrays = top_k(query, gallery, 4)
    tensors = top_k(torch.from_numpy(query), torch.from_numpy(gallery), 4)
    for array, tensor in zip(arrays, tensors, strict=True):
        assert isinstance(array, np.ndarray)
        assert isinstance(tensor, torch.Tensor)
        assert (array == tensor.numpy()).all()


def test_bfloat16_ranks_as_its_float32_values():
    query, gallery = (torch.randn(n, 16).bfloat16() for n in (5, 200))
    half, full = top_k(query, gallery, 9), top_k(query.float(), gallery.float(), 9)
    assert torch.equal(half[0], full[0])
    assert torch.equal(half[1], full[1])


def test_the_reduced_precision_of_the_caller_is_ignored_and_stays_set():
    query, gallery = torch.randn(20, 256), torch.randn(500, 256)
    expected = top_k(query, gallery, 30)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = top_k(query, gallery, 30)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("name", ["cuda", "mkldnn"])
def test_the_precision_that_the_caller_set_for_a_backend_is_ignored_and_stays_set(name):
    backend = getattr(torch.backends, name).matmul
    query, gallery = torch.randn(20, 256), torch.randn(500, 256)
    expected = top_k(query, gallery, 30)
    before = backend.fp32_precision
    backend.fp32_precision = "tf32" if name == "cuda" else "bf16"
    try:
        found = top_k(query, gallery, 30)
        assert backend.fp32_precision == ("tf32" if name == "cuda" else "bf16")
    finally:
        backend.fp32_precision = before
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("metric", sorted(DISTANCE_METRICS))
def test_cuda_gives_the_same_bits(metric):
    query, gallery = torch.randn(50, 128), torch.randn(3000, 128)
    on_cpu = top_k(query, gallery, 25, metric=metric)
    on_cuda = top_k(query.cuda(), gallery.cuda(), 25, metric=metric)
    assert on_cuda[0].is_cuda
    assert torch.equal(on_cpu[0], on_cuda[0].cpu())
    assert torch.equal(on_cpu[1], on_cuda[1].cpu())


def test_read_only_and_reversed_arrays_are_accepted_without_a_warning(recwarn):
    random = np.random.default_rng(5)
    query, gallery = (random.normal(size=(n, 6)).astype(np.float32) for n in (4, 30))
    query.flags.writeable = False
    _, indices = top_k(query, gallery[::-1], 5)
    assert (indices == sorted_indices(query, gallery[::-1], 5, "euclidean")).all()
    assert not recwarn.list


@pytest.mark.parametrize("copies", [1, 30, 3000])
def test_copies_of_an_image_are_ranked_in_the_order_of_the_gallery(copies):
    random = np.random.default_rng(copies)
    images = random.normal(size=(3000 // copies, 64)).astype(np.float32)
    gallery = images[random.permutation(np.repeat(np.arange(len(images)), copies))]
    query = images[:1] + random.normal(size=(20, 64)).astype(np.float32) / 10
    _, indices = top_k(query, gallery, 40, memory_mb=1)
    differences = query[:, None].astype(np.float64) - gallery[None]
    expected = np.square(differences).sum(axis=2).argsort(axis=1, kind="stable")[:, :40]
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("metric", sorted(DISTANCE_METRICS))
def test_a_float16_gallery_accepts_float32_queries(metric):
    random = np.random.default_rng(4)
    query = random.normal(size=(6, 20)).astype(np.float32)
    gallery = random.normal(size=(90, 20)).astype(np.float16)
    expected = top_k(query, gallery.astype(np.float32), 9, metric=metric)
    for array, other in zip(top_k(query, gallery, 9, metric=metric), expected, strict=True):
        np.testing.assert_array_equal(array, other)
