"""One process embeds the same, whoever decodes and however many batches a forward pass takes."""

import numpy as np
import pytest
import torch
from support.nightly_runs import draw_images, make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.image_folders import find_images
from reidray.inference.image_batches import ImageSet, decode_batches, plan_batches
from reidray.inference.inference_settings import InferenceSettings
from reidray.inference.local_engine import embed_in_process, predict_decoded
from reidray.inference.prediction_loop import (
    PreparedNetwork,
    choose_batch_size,
    prepare_network,
)
from reidray.inference.predictions import NO_TIME, PredictionShape
from reidray.models import load_person_model
from reidray.models.inference_network import largest_activation
from reidray.retrieval.numerics import single_thread
from reidray.storage.location import Location

BFLOAT16 = InferenceSettings("bf16", flip=True)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_person_model(make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA))


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Return batches of 290 images, 64 in each but the last."""
    folder = draw_images(tmp_path_factory.mktemp("images"), people=58, variants=5) / "gallery"
    images = ImageSet("gallery", Location(str(folder)), find_images(Location(str(folder))).paths)
    return plan_batches(images, np.arange(len(images.paths)))


def collect(results):
    """Return the predictions of all images in the order of their paths."""
    found = PredictionShape(16 + sum(PEDESTRIAN_SCHEMA.sizes), 12).empty(290)
    for group in results:
        for each in group:
            found.assign(np.array(each.batch.indices)[each.positions], each.predictions)
    return found


def assert_same_bits(found, expected):
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("settings", [InferenceSettings(), BFLOAT16], ids=["fp32", "bf16"])
def test_processes_that_decode_change_no_prediction(model, batches, settings):
    alone = collect(embed_in_process(model, batches, settings=settings))
    helped = collect(embed_in_process(model, batches, settings=settings, num_decoders=2))
    assert_same_bits(helped, alone)


@pytest.mark.parametrize("settings", [InferenceSettings(), BFLOAT16], ids=["fp32", "bf16"])
def test_one_forward_pass_takes_several_decoded_batches(model, batches, settings):
    prepared = prepare_network(model.network, (32, 16), settings, CPU)
    merged = PreparedNetwork(prepared.network, CPU, batch_size=128, flip=settings.flip)
    passes = []
    prepared.network.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))

    def predictions(order):
        with single_thread():
            decoded = decode_batches([batches[place] for place in order], (32, 16), None)
            return collect(predict_decoded(merged, decoded))

    found = predictions(range(5))
    assert passes == [128] * (6 if settings.flip else 3)
    assert_same_bits(predictions([3, 4, 0, 2, 1]), found)
    alone = collect(embed_in_process(model, batches, settings=settings))
    np.testing.assert_allclose(found.embeddings, alone.embeddings, atol=1e-5)


def test_the_timings_of_batches_add_up_to_the_images(model, batches):
    timing = NO_TIME
    for group in embed_in_process(model, batches):
        for each in group:
            timing += each.timing
    assert timing.num_images == 290
    assert 0 < timing.input_wait_seconds < timing.seconds


def test_the_batch_on_a_gpu_fits_its_memory_and_fills_it(model):
    network = model.network
    numbers = largest_activation(network, 32, 16)
    assert numbers >= 64 * 16 * 8  # of the first convolution
    gigabytes = 2**30
    assert choose_batch_size(network, (32, 16), 80 * gigabytes) == 1024
    assert choose_batch_size(network, (32, 16), 300 * 64 * numbers) == 256
    assert choose_batch_size(network, (32, 16), 1) == 64
    assert choose_batch_size(network, (256, 128), 80 * gigabytes) == 512
    assert choose_batch_size(network, (384, 128), 80 * gigabytes) == 256
