import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Compute with one thread: for arrays as small as those of tests, threads cost more time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
