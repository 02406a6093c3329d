import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reidray.baselines.augmented_copies import AugmentedCopies
from reidray.baselines.pca import PCABaseline
from reidray.baselines.pixel_moments import PixelMoments
from reidray.baselines.pixel_projection import flatten_crops


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 4, 3), np.uint8)


def test_embeddings_are_float32_rows_with_the_chosen_components(crops):
    embeddings = PCABaseline.fit(crops, components=5).embed(crops[:7])
    assert (embeddings.shape, embeddings.dtype) == ((7, 5), np.float32)


def test_all_components_keep_the_distances_of_standardised_pixels(crops):
    embeddings = PCABaseline.fit(crops, components=20).embed(crops)
    pixels = crops.reshape(20, -1).astype(np.float64)
    standardised = (pixels - pixels.mean(0)) / pixels.std(0)
    expected = np.linalg.norm(standardised[:, None] - standardised[None], axis=2)
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    np.testing.assert_allclose(distances, expected, atol=1e-3)


def test_first_component_is_the_direction_of_largest_variance():
    brightness = np.linspace(20, 230, 16)
    noise = np.random.default_rng(1).normal(0, 4, (16, 8, 4, 3))
    crops = (brightness[:, None, None, None] + noise).astype(np.uint8)
    first = PCABaseline.fit(crops, components=2).embed(crops)[:, 0]
    assert abs(np.corrcoef(first, brightness)[0, 1]) > 0.99


def test_the_number_of_components_is_at_most_that_of_crops(crops):
    assert PCABaseline.fit(crops[:6], components=50).embed(crops).shape == (20, 6)


def test_same_crops_give_the_same_embeddings(crops):
    once, again = (PCABaseline.fit(crops, components=4).embed(crops) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_no_crops_give_no_embeddings(crops):
    assert PCABaseline.fit(crops, components=4).embed(crops[:0]).shape == (0, 4)


def test_crops_of_another_size_are_refused(crops):
    baseline = PCABaseline.fit(crops, components=4)
    with pytest.raises(ValueError, match=r"\(8, 4, 3\)"):
        baseline.embed(crops[:, :4])


def test_grey_or_flat_input_is_refused(crops):
    with pytest.raises(ValueError, match="expected"):
        PCABaseline.fit(crops[..., 0])


def correlated(count, seed):
    """Return crops (count, 6, 4, 3) whose pixels vary along a few directions."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).normal(size=(12, 72)) * np.geomspace(30, 1, 12)[:, None]
    pixels = 128 + rng.normal(size=(count, 12)) @ ways / 3 + rng.normal(size=(count, 72))
    return pixels.clip(0, 255).astype(np.uint8).reshape(count, 6, 4, 3)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_share_keeps_the_fewest_components_that_hold_it(share):
    baseline = PCABaseline.fit(correlated(60, 1), share)
    kept = len(baseline.components)
    assert baseline.cumulative_variance[kept - 1] >= share
    assert kept == 1 or baseline.cumulative_variance[kept - 2] < share
    embedded = baseline.embed(correlated(60, 1)).var(axis=0).sum()
    assert embedded == pytest.approx(72 * baseline.cumulative_variance[kept - 1], rel=1e-3)


@pytest.mark.parametrize("grey", [False, True])
def test_components_of_moments_equal_those_of_crops_in_memory(grey):
    crops, others = correlated(90, 2), correlated(20, 3)
    moments = PixelMoments((6, 4), grey=grey)
    moments.add(crops)
    summed = PCABaseline.from_moments(moments, 0.95)
    held = PCABaseline.fit(crops, 0.95, grey=grey)
    assert len(summed.components) == len(held.components)
    ranks = len(held.cumulative_variance)
    np.testing.assert_allclose(
        summed.cumulative_variance[:ranks], held.cumulative_variance, atol=1e-5
    )
    np.testing.assert_allclose(
        np.abs(summed.embed(others)), np.abs(held.embed(others)), rtol=1e-2, atol=1e-2
    )


@given(st.lists(st.integers(0, 40), max_size=6), st.randoms(use_true_random=False))
def test_moments_have_the_same_bits_for_any_division_and_order(cuts, random):
    crops = correlated(40, 4)
    whole = PixelMoments((6, 4))
    whole.add(crops)
    parts = np.split(crops, sorted(cuts))
    random.shuffle(parts)
    merged = PixelMoments((6, 4))
    for part in parts:
        summed = PixelMoments((6, 4))
        summed.add(part)
        merged.merge(summed.count, summed.sums, summed.products)
    assert merged.count == whole.count
    np.testing.assert_array_equal(merged.sums, whole.sums)
    np.testing.assert_array_equal(merged.products, whole.products)


def test_grey_pixels_are_pillows_luminance(crops):
    pictures = [np.asarray(Image.fromarray(crop).convert("L")).ravel() for crop in crops]
    np.testing.assert_array_equal(flatten_crops(crops, grey=True), np.stack(pictures))


def test_crops_too_large_for_a_matrix_of_products_are_refused():
    with pytest.raises(ValueError, match="128x64"):
        PixelMoments((128, 64))


@pytest.mark.parametrize("components", [0, -1, 2.5, 0.0])
def test_components_that_are_neither_a_number_nor_a_share_are_refused(crops, components):
    with pytest.raises(ValueError, match="components"):
        PCABaseline.fit(crops, 0.9).truncate(components)


@pytest.mark.parametrize("grey", [False, True])
def test_more_components_reconstruct_more_of_a_crop(grey):
    crops = correlated(90, 5)
    baseline = PCABaseline.fit(crops, 0.99999, grey=grey)
    expected = crops
    if grey:
        pictures = [np.asarray(Image.fromarray(crop).convert("L")) for crop in crops]
        expected = np.stack(pictures)[..., None].repeat(3, axis=3)
    errors = []
    for share in (0.5, 0.9, 0.99999):
        kept = baseline.truncate(share)
        restored = kept.reconstruct(kept.embed(crops))
        assert (restored.shape, restored.dtype) == (crops.shape, np.uint8)
        errors.append(np.abs(restored.astype(float) - expected).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2


def test_without_standardising_components_are_those_of_the_covariance():
    crops = correlated(90, 6)
    moments = PixelMoments((6, 4))
    moments.add(crops)
    summed = PCABaseline.from_moments(moments, 5, standardise=False)
    pixels = crops.reshape(90, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(
        summed.cumulative_variance[:5], values[::-1][:5].cumsum() / values.sum(), atol=1e-6
    )
    cosines = np.abs((summed.components * vectors.T[::-1][:5]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_the_augmented_copy_of_a_crop_does_not_depend_on_the_other_crops():
    crops = correlated(20, 7)
    copies = AugmentedCopies(20, seed=3)
    together = copies.of(crops, np.arange(20))
    assert (together.shape, together.dtype) == (crops.shape, np.uint8)
    assert (together != crops).any()
    some = np.array([4, 9, 17])
    np.testing.assert_array_equal(copies.of(crops[some], some), together[some])
    np.testing.assert_array_equal(AugmentedCopies(20, seed=3).of(crops, np.arange(20)), together)
    assert (AugmentedCopies(20, seed=4).of(crops, np.arange(20)) != together).any()
