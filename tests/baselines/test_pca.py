import numpy as np
import pytest

from reidray.baselines.pca import PCABaseline


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 4, 3), np.uint8)


def test_embeds_as_float32_rows_of_the_components_asked_for(crops):
    embeddings = PCABaseline.fit(crops, components=5).embed(crops[:7])
    assert (embeddings.shape, embeddings.dtype) == ((7, 5), np.float32)


def test_distances_with_all_components_are_those_of_the_standardised_pixels(crops):
    embeddings = PCABaseline.fit(crops, components=20).embed(crops)
    pixels = crops.reshape(20, -1).astype(np.float64)
    standardised = (pixels - pixels.mean(0)) / pixels.std(0)
    expected = np.linalg.norm(standardised[:, None] - standardised[None], axis=2)
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    np.testing.assert_allclose(distances, expected, atol=1e-3)


def test_first_component_is_what_the_crops_differ_in_most():
    brightness = np.linspace(20, 230, 16)
    noise = np.random.default_rng(1).normal(0, 4, (16, 8, 4, 3))
    crops = (brightness[:, None, None, None] + noise).astype(np.uint8)
    first = PCABaseline.fit(crops, components=2).embed(crops)[:, 0]
    assert abs(np.corrcoef(first, brightness)[0, 1]) > 0.99


def test_more_components_than_crops_are_cut_to_what_there_is(crops):
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
