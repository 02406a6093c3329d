"""Find and end processes with the psutil inside Ray."""

import contextlib
import importlib.util
import signal
import sys
import time
from pathlib import Path
from typing import Any

from reidray.errors import MachineError, UserError


def load_psutil() -> Any:
    """Return the psutil inside Ray without importing Ray.

    Ray reads its settings during the import, so `submit` must set them before it imports Ray.
    """
    ray = importlib.util.find_spec("ray")
    if ray is None or ray.origin is None:
        raise UserError("Ray is not installed here: run this with `uv run cluster/local/...`")
    bundled = str(Path(ray.origin).parent / "thirdparty_files")
    if bundled not in sys.path:
        sys.path.append(bundled)
    return importlib.import_module("psutil")


def is_alive(process: Any) -> bool:
    """Return whether a process runs. A zombie process does not."""
    psutil = load_psutil()
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_processes(processes: list[Any]) -> None:
    """End processes and their children with SIGTERM, and after some seconds with SIGKILL.

    Raises:
        MachineError: some processes still run after SIGKILL.
    """
    family = list(processes)
    for process in processes:
        with contextlib.suppress(load_psutil().NoSuchProcess):
            family += process.children(recursive=True)
    # The first process is the parent of the others, and ends them when it gets SIGTERM.
    for targets, signal_number, seconds in (
        (processes[:1], signal.SIGTERM, 10),
        (family, signal.SIGTERM, 5),
        (family, signal.SIGKILL, 5),
    ):
        deadline = time.monotonic() + seconds
        for process in filter(is_alive, targets):
            with contextlib.suppress(load_psutil().NoSuchProcess):
                process.send_signal(signal_number)
        while any(map(is_alive, targets)) and time.monotonic() < deadline:
            time.sleep(0.05)
    if left := [process.pid for process in family if is_alive(process)]:
        raise MachineError(f"still running after being killed: {left}")
