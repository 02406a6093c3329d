"""Start a Ray whose Python workers begin with PyTorch and reidray imported.

Ray starts a worker by a command that begins with `sys.executable`. Here that is a script of the
shell, which has the server of `forked_scripts` run the worker in a fork of itself.
"""

import shlex
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.forked_scripts import script_command

PYTHON = """#!/bin/sh
case "$1" in
*/setup_worker.py | */default_worker.py) exec {worker} "$@" ;;
*) exec {python} "$@" ;;
esac
"""


@contextmanager
def ray_of_forks(**options):
    """Start Ray as `ray.init` does with these options, yield its address, and stop it."""
    import ray

    worker = script_command(Path(__file__).with_name("ray_worker.py"))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        python = Path(folder) / "python"
        python.write_text(PYTHON.format(worker=shlex.join(worker), python=sys.executable))
        python.chmod(0o755)
        patch.setattr(sys, "executable", str(python))
        ray.init(address="local", **options)
        patch.undo()
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
