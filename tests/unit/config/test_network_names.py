import pytest

from reidray.config import NetworkConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.config.sections.network_options import NETWORK_OPTIONS
from reidray.models.factory import NETWORKS


def test_every_network_has_options_and_a_builder():
    assert set(NETWORK_OPTIONS) == set(NETWORKS)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("pets_autoencoder", "is for pets, not for reid: choose one of apr, baseline"),
        ("vgg_triplet_rbg", "does not exist: did you mean 'vgg_triplet_rgb'"),
        ("yolo", "does not exist: choose one of apr, baseline"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrainReidConfig(data="-", network=NetworkConfig(name=name))


def test_a_network_of_another_task_is_refused():
    with pytest.raises(ValueError, match="is for reid, not for pets"):
        TrainMultitaskConfig(data="-", task="pets", network=NetworkConfig(name="apr"))
