import pytest
from support.nightly_runs import make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The directory of a small model that predicts the pedestrian attributes."""
    return make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA)
