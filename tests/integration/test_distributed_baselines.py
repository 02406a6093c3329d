"""PCA over Ray Data gives the components of the crops in memory, for any number of tasks."""

import numpy as np
import pytest
from PIL import Image

from reidray.baselines import distributed_pixels
from reidray.baselines.augmented_copies import AugmentedCopies
from reidray.baselines.distributed_pixels import compute_moments, project_images
from reidray.baselines.pca import PCABaseline
from reidray.data.images.decoding import decode_files
from reidray.storage.location import Location

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_address")]
SIZE = (8, 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Write 300 images whose pixels vary along ten directions, and one that does not decode."""
    root = tmp_path_factory.mktemp("pixels")
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(10, 96)) * np.geomspace(40, 2, 10)[:, None]
    pixels = 128 + rng.normal(size=(300, 10)) @ ways / 3 + rng.normal(size=(300, 96))
    for number, row in enumerate(pixels.clip(0, 255).astype(np.uint8)):
        Image.fromarray(row.reshape(*SIZE, 3)).save(root / f"{number:03d}.png")
    (root / "broken.png").write_bytes(b"no image")
    return Location(str(root)), [*(f"{number:03d}.png" for number in range(300)), "broken.png"]


def test_moments_over_ray_give_the_components_of_crops_in_memory(images):
    location, paths = images
    moments, bad = compute_moments(location, paths, SIZE)
    assert (moments.count, [image.path for image in bad]) == (300, ["broken.png"])
    crops = decode_files(location, paths, SIZE).crops
    summed, held = PCABaseline.from_moments(moments, 10), PCABaseline.fit(crops, 10)
    np.testing.assert_allclose(summed.cumulative_variance[:10], held.cumulative_variance, atol=1e-5)
    cosines = np.linalg.svd(summed.components @ held.components.T, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


@pytest.mark.parametrize("copies", [None, AugmentedCopies(301, seed=1)])
def test_moments_have_the_same_bits_for_any_number_of_tasks(images, monkeypatch, copies):
    found = []
    for tasks in (1, 2, 5):
        monkeypatch.setattr(distributed_pixels, "cluster_cpus", lambda tasks=tasks: tasks)
        found.append(compute_moments(*images, SIZE, copies=copies)[0])
    for other in found[1:]:
        np.testing.assert_array_equal(other.sums, found[0].sums)
        np.testing.assert_array_equal(other.products, found[0].products)


def test_embeddings_over_ray_equal_those_in_memory(images):
    location, paths = images
    decoded = decode_files(location, paths, SIZE)
    baseline = PCABaseline.fit(decoded.crops, 0.9)
    embedded = project_images(baseline, location, paths)
    assert [image.path for image in embedded.bad] == ["broken.png"]
    np.testing.assert_array_equal(embedded.indices, decoded.kept)
    np.testing.assert_allclose(embedded.embeddings, baseline.embed(decoded.crops), atol=1e-4)
