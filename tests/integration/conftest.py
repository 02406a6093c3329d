import pytest
import ray
from support.nights import make_model

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA


@pytest.fixture(scope="session")
def ray_address():
    """Ray with two CPUs, for tests in this process and for the jobs that they start."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The directory of a small model that predicts the pedestrian attributes."""
    return make_model(tmp_path_factory.mktemp("model"), "apr", PEDESTRIAN_SCHEMA)
