import pytest

from reidray.errors import UserError
from reidray.models.registry import check_weights, describe_network


def test_a_network_of_more_weights_than_a_machine_holds_is_refused_before_it_is_made():
    spec = describe_network("vgg_triplet_rgb", height=1024, width=1024, embedding_size=65_536)
    with pytest.raises(UserError, match=r"more than 1,073,741,824: lower --network\.height"):
        check_weights(spec)


@pytest.mark.parametrize("name", ["apr", "pets_autoencoder", "vgg_triplet_rgb"])
def test_the_networks_of_papers_and_reports_are_small_enough(name):
    check_weights(describe_network(name))


def test_an_image_that_is_too_large_is_refused():
    with pytest.raises(UserError, match="height 4096 x width 4096: expected 1,048,576 pixels"):
        describe_network("baseline", height=4096, width=4096)
