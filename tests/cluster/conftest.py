import pytest
import ray


@pytest.fixture(scope="session")
def ray_address():
    """Ray with two CPUs, for tests in this process and for the jobs that they start."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
