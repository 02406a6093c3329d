import pytest

from reidray.errors import UserError
from reidray.ray_runtime import ray_session


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_where_nobody_listens_is_told_at_once(address):
    refused = pytest.raises(UserError, match=f"{address}' cannot be joined")
    with refused as caught, ray_session(address):
        pytest.fail("joined")
    assert "\n" not in str(caught.value)
