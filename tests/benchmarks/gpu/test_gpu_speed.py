"""Measure everything that runs on a GPU, in a process of its own.

Run with `pytest -m benchmark -s tests/benchmarks/gpu`, or `python tests/benchmarks/gpu/run.py`
where there is no pytest.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def test_gpu_speed():
    """Fail where a measurement or a check fails; what was not reached is in the table."""
    subprocess.run([sys.executable, Path(__file__).with_name("run.py")], check=True)
