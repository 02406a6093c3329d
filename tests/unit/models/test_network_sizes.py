import pytest

from reidray.errors import UserError
from reidray.models.factory import build_architecture, check_parameter_count


def test_a_network_of_more_weights_than_a_machine_holds_is_refused_before_it_is_made():
    architecture = build_architecture(
        "vgg_triplet_rgb", height=1024, width=1024, embedding_size=65_536
    )
    with pytest.raises(UserError, match=r"more than 1,073,741,824: lower `network\.height`"):
        check_parameter_count(architecture)


@pytest.mark.parametrize("name", ["apr", "pets_autoencoder", "vgg_triplet_rgb"])
def test_the_networks_of_papers_and_reports_are_small_enough(name):
    check_parameter_count(build_architecture(name))


def test_an_image_that_is_too_large_is_refused():
    with pytest.raises(UserError, match="must be 1,048,576 pixels or fewer"):
        build_architecture("baseline", height=4096, width=4096)
