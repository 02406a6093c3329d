"""`reidray.embed` takes the precision and the mirror images of scoring."""

import numpy as np
import pytest
from support.nightly_runs import make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.errors import UserError
from reidray.inference.in_memory import embed
from reidray.models import load_person_model

CROPS = np.random.default_rng(0).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_person_model(make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA))


def test_embeddings_of_mirror_images_are_averaged(model):
    mirrored = CROPS[:, :, ::-1]
    mean = (embed(model, CROPS, device="cpu") + embed(model, mirrored, device="cpu")) / 2
    np.testing.assert_allclose(embed(model, CROPS, device="cpu", flip=True), mean, atol=1e-6)


def test_a_cpu_embeds_in_float32_unless_asked_for_bfloat16(model):
    exact = embed(model, CROPS, device="cpu", precision="fp32")
    np.testing.assert_array_equal(embed(model, CROPS, device="cpu"), exact)
    rounded = embed(model, CROPS, device="cpu", precision="bf16")
    assert rounded.dtype == np.float32
    assert (rounded != exact).any()
    np.testing.assert_allclose(rounded, exact, atol=0.02)


def test_a_precision_that_does_not_exist_is_refused(model):
    with pytest.raises(UserError, match="`precision` is 'fp16': expected auto, fp32 or bf16"):
        embed(model, CROPS, precision="fp16")
