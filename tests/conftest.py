import gc
import os
from uuid import uuid4

import pyarrow.fs
import pytest
from hypothesis import settings
from support.s3_server import UnreliableStore

# Before anything imports torch: threads that wait spin only briefly on a shared machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Before anything imports Ray: under `uv run` it would install the environment anew for its workers.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

# Hypothesis must not fail a test because the machine is slow. Each run tries other examples.
settings.register_profile("unhurried", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("unhurried")


def pytest_collection_finish():
    """Keep the collector of garbage from searching the millions of objects of imported modules."""
    gc.collect()
    gc.freeze()


SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="session")
def ray_address():
    """Start Ray with two CPUs for tests in this process and for their jobs; yield its address."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """Start an S3 server, and yield its host and port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Create an empty bucket, set the environment to reach it, and return its URI."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    host, port = s3_server
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    name = f"bucket-{uuid4().hex[:12]}"
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True
    )
    store.create_dir(name)
    return f"s3://{name}"


@pytest.fixture
def unreliable(s3_server, bucket, monkeypatch):  # noqa: ARG001 - it sets the credentials
    """Yield an unreliable connection to the server, and set the environment to use it."""
    store = UnreliableStore(*s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.endpoint}")
    yield store
    store.close()
