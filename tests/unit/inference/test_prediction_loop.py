import numpy as np
import pytest
import torch
from torch import nn

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, AttributeSchema
from reidray.errors import MachineError
from reidray.inference.device_buffers import download
from reidray.inference.inference_settings import InferenceSettings, choose_settings
from reidray.inference.prediction_loop import predict
from reidray.inference.predictions import concatenate
from reidray.models.architecture import Architecture, field_names
from reidray.models.factory import build_network
from reidray.models.inference_network import (
    BFloat16,
    copy_for_inference,
    prepare_for_inference,
)
from reidray.retrieval.numerics import single_thread

CPU = torch.device("cpu")


def make_network(name, schema=PEDESTRIAN_SCHEMA):
    torch.manual_seed(0)
    sizes = {"feature_size": 16, "height": 32, "width": 16, "num_people": 3, "schema": schema}
    sizes["backbone"] = "resnet_small"
    values = {key: value for key, value in sizes.items() if key in field_names(name)}
    return build_network(Architecture.from_values(name, values))


def prepared(name="apr", precision="fp32", schema=PEDESTRIAN_SCHEMA):
    return prepare_for_inference(make_network(name, schema), CPU, precision)


def draw_crops(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 16, 3), dtype=np.uint8)


def run(network, batches, **options):
    """Return the predictions for batches, one after the other, computed in one thread."""
    with single_thread():
        found = list(download(predict(network, batches, CPU, **options)))
    return concatenate([each.predictions for each in found])


def assert_same_bits(found, expected):
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("flip", [False, True])
def test_padded_predictions_do_not_depend_on_the_batch(precision, flip):
    network, crops = prepared(precision=precision), draw_crops(100)
    whole = run(network, [[crops[:64]], [crops[64:]]], pad_to=64, flip=flip)
    assert whole.attribute_labels.shape == (100, 12)
    assert ((whole.uncertainty >= 0) & (whole.uncertainty < 1)).all()
    small = [[crops[at : at + 9], crops[at + 9 : at + 25]] for at in range(0, 100, 25)]
    assert_same_bits(run(network, small, pad_to=64, flip=flip), whole)
    order = np.random.default_rng(1).permutation(100)
    shuffled = run(network, [[crops[order[:50]]], [crops[order[50:]]]], pad_to=64, flip=flip)
    assert_same_bits(shuffled, whole.select(order))


def test_crops_may_change_once_the_next_batch_is_taken():
    network, crops = prepared(), draw_crops(24)

    def overwritten():
        view = np.empty_like(crops[:8])
        for start in range(0, 24, 8):
            view[:] = crops[start : start + 8]
            yield [view[:3], view[3:]]
            view[:] = 0

    expected = run(network, [[crops[start : start + 8]] for start in range(0, 24, 8)], pad_to=8)
    assert_same_bits(run(network, overwritten(), pad_to=8), expected)


def test_predictions_that_are_kept_do_not_change():
    network, crops = prepared(), draw_crops(20)
    kept = list(predict(network, [[crops[at : at + 4]] for at in range(0, 20, 4)], CPU, pad_to=4))
    (whole,) = predict(network, [[crops]], CPU)
    found = torch.cat([each.embeddings for each in kept])
    torch.testing.assert_close(found, whole.embeddings)


def test_a_network_without_attributes_has_no_labels_and_no_uncertainty():
    found = run(prepared("baseline", schema=AttributeSchema()), [[draw_crops(3)]])
    assert found.attribute_labels.shape == (3, 0)
    assert np.isnan(found.uncertainty).all()


def test_a_prepared_network_is_a_copy_that_predicts_the_same_but_for_rounding():
    network = make_network("apr").eval()
    crops = draw_crops(4)
    before = run(network, [[crops]])
    after = run(prepare_for_inference(network, CPU), [[crops]])
    again = run(network, [[crops]])
    assert_same_bits(again, before)
    assert after.embeddings == pytest.approx(before.embeddings, abs=1e-4)


@pytest.mark.parametrize("name", ["apr", "baseline", "reid_small"])
def test_bfloat16_embeds_in_float32_and_close_to_full_precision(name):
    crops = draw_crops(8)
    exact = run(prepared(name), [[crops]]).embeddings
    found = run(prepared(name, "bf16"), [[crops]]).embeddings
    assert found.dtype == np.float32
    cosine = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert 0.999 < cosine.min() < cosine.max() < 1.000001
    assert (found != exact).any()
    # Numbers with more bits than bfloat16 has show that the last layers compute in float32.
    rounded = torch.from_numpy(found).bfloat16().float().numpy()
    assert (found != rounded)[found != 0].mean() > 0.9


def test_a_copy_for_a_validation_leaves_cudnn_as_the_training_needs_it():
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        copy_for_inference(make_network("apr"), CPU, "bf16")
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (True, False, True)
        prepared()
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)


def test_flip_averages_a_crop_and_its_mirror_image():
    network, crops = prepared(), draw_crops(6)
    found = run(network, [[crops]], pad_to=6, flip=True)
    one, other = (run(network, [[each]], pad_to=6) for each in (crops, crops[:, :, ::-1]))
    np.testing.assert_array_equal(found.embeddings, (one.embeddings + other.embeddings) / 2)
    both = run(network, [[crops[:, :, ::-1]]], pad_to=6, flip=True)
    np.testing.assert_array_equal(both.embeddings, found.embeddings)
    np.testing.assert_array_equal(both.attribute_labels, found.attribute_labels)


def test_flip_averages_the_probabilities_of_attributes():
    network, crops = prepared(), draw_crops(6)
    images = torch.from_numpy(crops).permute(0, 3, 1, 2)
    with torch.inference_mode():
        views = [network(images), network(images.flip(3))]
    found = run(network, [[crops]], flip=True)
    for number, logits in enumerate(zip(*(each.attributes for each in views), strict=True)):
        mean = sum(each.softmax(1) for each in logits) / 2
        np.testing.assert_array_equal(found.attribute_labels[:, number], mean.argmax(1).numpy())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee also ..."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_lack_of_memory_on_the_gpu_is_told_in_one_line(error):
    def fail(*_):
        raise error

    network = prepared()
    network.register_forward_pre_hook(fail)
    expected = r"too little free memory for a batch of 4 crops; .* `use_gpu=no`$"
    with pytest.raises(MachineError, match=expected):
        run(network, [[draw_crops(3)]], pad_to=4)


def test_full_precision_holds_against_the_precision_that_all_backends_were_given():
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        network, crops = prepared(), draw_crops(3)
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert not torch.backends.cudnn.allow_tf32
        run(network, [[crops]])
    finally:
        torch.backends.fp32_precision = before


class StandardisedConvolution(nn.Conv2d):
    """A convolution that standardises its weights, as those of some timm models do."""

    def forward(self, grid):
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(grid, self.weight - mean, None)


def test_a_convolution_that_derives_its_weights_computes_as_under_autocast():
    torch.manual_seed(0)
    layer, images = StandardisedConvolution(3, 8, 3), torch.randn(2, 3, 9, 9)
    layer.weight.data += 1  # bfloat16 would lose what is left after the mean
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            expected = layer(images)
        assert torch.equal(BFloat16(nn.Sequential(layer))(images), expected)


def test_other_errors_of_the_network_are_not_called_a_lack_of_memory():
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    network = prepared()
    network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(network, [[draw_crops(3)]], pad_to=4)


def test_autocast_and_the_precision_of_the_caller_do_not_matter():
    network, crops, seen = prepared(), draw_crops(6), []
    expected = run(network, [[crops]])
    network.register_forward_pre_hook(
        lambda *_: seen.append(torch.backends.cuda.matmul.fp32_precision)
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = run(network, [[crops]])
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["ieee"]
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)


def test_the_loop_measures_how_long_it_waits_for_crops(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow():
        for _ in range(2):
            now[0] += 3
            yield [draw_crops(2)]

    network = prepared()
    network.register_forward_pre_hook(lambda *_: now.__setitem__(0, now[0] + 1))
    first, second = [each.timing for each in predict(network, slow(), CPU, pad_to=4)]
    assert (first.num_images, first.seconds, first.input_wait_seconds) == (2, 4, 3)
    assert (first + second).input_wait == 0.75


def test_the_id_of_embeddings_names_what_changes_them():
    assert choose_settings("auto", False, on_gpu=False).embedding_id("abc") == "abc"
    assert choose_settings("auto", False, on_gpu=True) == InferenceSettings("bf16")
    assert choose_settings("fp32", True, on_gpu=True).embedding_id("abc") == "abc-flip"
    assert choose_settings("bf16", False, on_gpu=False).embedding_id("abc") == "abc-bf16"
