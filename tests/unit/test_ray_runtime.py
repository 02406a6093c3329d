import pytest
import torch

from reidray.errors import UserError
from reidray.ray_runtime import ray_session, uses_ray


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_where_nobody_listens_is_told_at_once(address):
    refused = pytest.raises(UserError, match=f"{address}' cannot be joined")
    with refused as caught, ray_session(address):
        pytest.fail("joined")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1", "head:port", "ray://head"])
def test_an_address_of_another_form_is_told_with_the_forms_there_are(address):
    refused = pytest.raises(UserError, match=f"{address}' cannot be joined .expected HOST:PORT")
    with refused, ray_session(address):
        pytest.fail("joined")


def test_none_is_refused_where_a_job_needs_ray_whoever_says_it(monkeypatch):
    told = "is for train_reid and train_multitask, .* use `ray_address=local`"
    with pytest.raises(UserError, match=f"`ray_address=none` {told}"), ray_session("none"):
        pytest.fail("started")
    monkeypatch.setenv("RAY_ADDRESS", "none")
    with pytest.raises(UserError, match=f"RAY_ADDRESS=none {told}"), ray_session():
        pytest.fail("started")
    assert uses_ray("local")
    assert not uses_ray(None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_setting_that_needs_a_gpu_is_refused_before_ray_starts_on_a_machine_without_one(caplog):
    refused = pytest.raises(UserError, match="`auto_batch` needs a GPU, and this")
    with caplog.at_level("INFO"), refused, ray_session("local", needs_gpu="`auto_batch`"):
        pytest.fail("started")
    assert "starting Ray" not in caplog.text
