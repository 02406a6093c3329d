import numpy as np
import pytest

from reidray.baselines.lda import LDABaseline
from reidray.baselines.pca import PCABaseline
from reidray.errors import UserError
from reidray.metrics import evaluate


def people_in_changing_light(people, images, seed):
    """Return crops that differ mostly in brightness, and a little by person."""
    looks = np.random.default_rng(0).normal(0, 8, (people, 1, 8, 4, 3))
    rng = np.random.default_rng(seed)
    light = rng.normal(0, 40, (people, images, 1, 1, 1))
    noise = rng.normal(0, 3, (people, images, 8, 4, 3))
    crops = (120 + looks + light + noise).clip(0, 255).astype(np.uint8)
    return crops.reshape(-1, 8, 4, 3), np.repeat(np.arange(1, people + 1), images)


@pytest.fixture(scope="module")
def fitted():
    crops, people = people_in_changing_light(12, 8, 1)
    pca = PCABaseline.fit(crops, 0.99)
    return pca, LDABaseline.fit(pca, pca.embed(crops), people, shrinkage=0.1)


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.9])
def test_the_discriminants_hold_all_variance_between_people(shrinkage):
    crops, people = people_in_changing_light(12, 20, 1)
    pca = PCABaseline.fit(crops, 0.99)
    lda = LDABaseline.fit(pca, pca.embed(crops), people, shrinkage=shrinkage)
    assert (np.diff(lda.cumulative_variance) >= 0).all()
    assert lda.cumulative_variance[-1] == pytest.approx(1)


def rank1(baseline):
    query, query_ids = people_in_changing_light(12, 2, 2)
    gallery, gallery_ids = people_in_changing_light(12, 3, 3)
    images = baseline.embed(query), baseline.embed(gallery)
    return evaluate(*images, query_ids, gallery_ids, protocol="all").cmc[0]


def test_discriminants_separate_people_where_principal_components_separate_light(fitted):
    pca, lda = fitted
    assert rank1(pca) < 0.5
    assert rank1(lda) > 0.9


def test_discriminants_are_one_fewer_than_people(fitted):
    _, lda = fitted
    assert lda.components.shape == (11, 96)
    assert lda.embed(people_in_changing_light(2, 2, 4)[0]).dtype == np.float32


@pytest.mark.parametrize("images", [1, 3])
def test_people_whose_images_are_the_same_have_discriminants(images):
    crops, people = people_in_changing_light(12, 1, 1)
    crops, people = np.repeat(crops, images, axis=0), np.repeat(people, images)
    pca = PCABaseline.fit(crops, 0.99)
    lda = LDABaseline.fit(pca, pca.embed(crops), people)
    assert lda.components.shape == (min(11, len(pca.components)), 96)
    assert lda.cumulative_variance[-1] == pytest.approx(1)
    embeddings = lda.embed(crops)
    assert evaluate(embeddings, embeddings, people, people, protocol="all").cmc[0] == 1


def test_one_person_is_refused(fitted):
    pca, _ = fitted
    with pytest.raises(UserError, match="training images show one: add"):
        LDABaseline.fit(pca, np.ones((4, len(pca.components)), np.float32), np.ones(4, np.int64))


def test_embeddings_that_are_not_the_components_are_refused(fitted):
    pca, _ = fitted
    with pytest.raises(ValueError, match="`embeddings` has shape"):
        LDABaseline.fit(pca, np.zeros((4, 3), np.float32), np.arange(4))
