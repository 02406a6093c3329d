import numpy as np
import pytest
import torch

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA, AttributeSchema
from reidray.inference.prediction_loop import predict, prepare_for_inference
from reidray.models.architecture import Architecture, field_names
from reidray.models.factory import build_network

CPU = torch.device("cpu")


def make_network(name, schema):
    torch.manual_seed(0)
    sizes = {"feature_size": 16, "height": 32, "width": 16, "num_people": 3, "schema": schema}
    sizes["backbone"] = "resnet_small"
    values = {key: value for key, value in sizes.items() if key in field_names(name)}
    return build_network(Architecture.from_values(name, values))


def draw_crops(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 16, 3), dtype=np.uint8)


def test_padded_predictions_do_not_depend_on_the_batch():
    network = prepare_for_inference(make_network("apr", PEDESTRIAN_SCHEMA), CPU)
    crops = draw_crops(9)
    (whole,) = predict(network, [crops], CPU, pad_to=16)
    parts = list(predict(network, [crops[:2], crops[2:]], CPU, pad_to=16))
    for name, values in whole._asdict().items():
        assert len(values) == 9
        assert torch.equal(values, torch.cat([getattr(part, name) for part in parts]))
    assert whole.attribute_labels.shape == (9, 12)
    assert ((whole.uncertainty >= 0) & (whole.uncertainty < 1)).all()


def test_a_network_without_attributes_has_no_labels_and_no_uncertainty():
    network = prepare_for_inference(make_network("baseline", AttributeSchema()), CPU)
    (found,) = (each.numpy() for each in predict(network, [draw_crops(3)], CPU))
    assert found.attribute_labels.shape == (3, 0)
    assert np.isnan(found.uncertainty).all()


def test_a_prepared_network_is_a_copy_that_predicts_the_same_but_for_rounding():
    network = make_network("apr", PEDESTRIAN_SCHEMA).eval()
    crops = draw_crops(4)
    (before,) = predict(network, [crops], CPU)
    (after,) = predict(prepare_for_inference(network, CPU), [crops], CPU)
    (again,) = predict(network, [crops], CPU)
    assert torch.equal(before.embeddings, again.embeddings)
    assert after.embeddings.numpy() == pytest.approx(before.embeddings.numpy(), abs=1e-4)
