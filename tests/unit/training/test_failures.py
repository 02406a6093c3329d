"""Ray Train retries the failures of machines, and not those of programs."""

import pickle

import pytest
import ray.exceptions
import torch

from reidray.errors import UserError
from reidray.training.execution.failures import StopOnBug, TrainingBugError, to_bug_error


@pytest.mark.parametrize(
    "error",
    [
        UserError("lower the rate"),
        ConnectionResetError("peer"),
        TimeoutError("no answer"),
        OSError("Input/output error"),
        ray.exceptions.ObjectLostError("ff", None, ""),
        torch.distributed.DistNetworkError("Connection reset by peer"),
        RuntimeError("[third_party/gloo/transport/tcp/pair.cc:538] Connection closed by peer"),
        RuntimeError("NCCL error in: ProcessGroupNCCL.cpp: remote process exited"),
    ],
)
def test_transient_failures_and_user_errors_are_no_bugs(error):
    assert to_bug_error(error) is None


@pytest.mark.parametrize(
    "error",
    [KeyError("mask_f1"), ValueError("x"), RuntimeError("mat1 and mat2 shapes"), TypeError()],
)
def test_a_bug_keeps_its_traceback_and_travels_between_processes(error):
    try:
        raise error
    except Exception as met:
        bug = pickle.loads(pickle.dumps(to_bug_error(met)))
    assert isinstance(bug, TrainingBugError)
    assert "Traceback" in str(bug)
    assert type(error).__name__ in str(bug)
    with pytest.raises(TrainingBugError):
        StopOnBug().after_exception(None, {0: ConnectionResetError(), 1: bug})


def test_ray_retries_a_lost_worker():
    StopOnBug().after_exception(None, {0: ray.exceptions.RayActorError(), 1: OSError("gone")})
