"""A connection to Ray: a cluster of one's own in this process, or one that is running."""

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reidray.errors import UserError
from reidray.interrupts import interrupted
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.object_store import ENDPOINT_VARIABLE

CONNECT_SECONDS = 10
LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
DASHBOARD_VARIABLE = "RAY_API_SERVER_ADDRESS"

SOCKET_PATH_BYTES = 103
"""The longest address of a socket on any system."""

SOCKET_NAME_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
"""By how much Ray's own are longer than the folder for temporary files."""

SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

WORKER_SETTINGS = {
    # OpenMP threads that spin while they wait make a shared machine twenty times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    # In bytes. By itself glibc gives the memory of each layer's output back to the system and takes
    # it anew page by page, in some processes for a quarter of their time.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""What the environment of the processes that Ray starts should say."""


@contextmanager
def ray_session(
    address: str | None = None, *, verbose: bool = False, dashboard: bool = False
) -> Iterator[None]:
    """Connect to Ray, and leave it as it was found.

    Args:
        address: `local` starts Ray in this process, `auto` or HOST:PORT joins a running cluster;
            None joins the one in RAY_ADDRESS, which a submitted job is given, or else is `local`.
        verbose: show Ray's own messages.
        dashboard: have Ray's dashboard, which is started beside a `local` one, on loopback. Ray
            Tune needs it to stop a trial that Ray Train trains: without it the trial keeps its
            place for ever.

    Raises:
        UserError: no cluster answers at the address, or it has no dashboard that is needed.
    """
    bind_to_loopback(address)
    address = _chosen(address)
    alone = address == "local"
    doing = "starting Ray" if alone else f"joining Ray at {address}"
    with _folder_for_sockets(address) as folder:
        with Activity(doing, delay=0.0 if alone else SHOW_AFTER_SECONDS):
            joined = _connect(address, folder, verbose=verbose, dashboard=dashboard)
        try:
            if dashboard and not joined.dashboard_url:
                raise UserError(
                    f"Ray at {address!r} has no dashboard, which trials of several workers need to "
                    "be stopped: start one with cluster/local/up, or use --ray-address local"
                )
            yield
        finally:
            if not interrupted():  # the job is about to end, and all that Ray started with it
                import ray

                with Activity("stopping Ray" if address == "local" else "leaving Ray"):
                    ray.shutdown()
            if address == "local" and dashboard:
                del os.environ[DASHBOARD_VARIABLE]


def _connect(address: str, folder: str | None, *, verbose: bool, dashboard: bool) -> Any:
    """Connect to Ray at an address, and return what it says of the connection."""
    import ray  # takes a second, which a night with little to embed does without

    _quieten(verbose)
    _check_reachable(address)
    here: dict[str, object] = {}
    if address == "local":
        here = _own_dashboard() if dashboard else {"include_dashboard": False}
        for name, value in WORKER_SETTINGS.items():
            os.environ.setdefault(name, value)
    else:
        here["runtime_env"] = {"env_vars": _told_to_workers()}
    try:
        joined = ray.init(
            address=address,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            configure_logging=True,
            _temp_dir=folder,
            **here,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(address, str(error).strip().splitlines()[0]) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.print_on_execution_start = verbose
    return joined


@contextmanager
def _folder_for_sockets(address: str) -> Iterator[str | None]:
    """Make a folder for the Ray that a session starts, where its usual one has too long a name.

    Yields:
        The folder, which is removed afterwards; None where Ray's usual one will do.

    Raises:
        UserError: there is no folder of a short name to make it in.
    """
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if address != "local" or len(os.fsencode(usual)) + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES:
        yield None
        return
    above = next(
        (place for place in SHORT_FOLDERS if os.access(place, os.W_OK | os.X_OK)),
        None,
    )
    if above is None:
        raise UserError(
            f"TMPDIR {usual} has too long a name for Ray's sockets, and nothing can be written in "
            f"{', '.join(SHORT_FOLDERS)}: set RAY_TMPDIR to a folder of "
            f"{SOCKET_PATH_BYTES - SOCKET_NAME_BYTES} characters or fewer"
        )
    with tempfile.TemporaryDirectory(
        prefix="reidray-", dir=above, ignore_cleanup_errors=True
    ) as folder:
        yield folder


def bind_to_loopback(address: str | None) -> None:
    """Have the Ray that a session with this address would start listen to this machine alone.

    To be called before Ray is imported: that is when it asks. By itself it listens on every
    interface; told that it is alone, as on a Mac, it stays on loopback.
    """
    if starts_local_ray(address):
        os.environ.setdefault(LOOPBACK_VARIABLE, "0")


def _own_dashboard() -> dict[str, object]:
    """How to start a dashboard, whose address the processes that Ray starts are told.

    They would look for it, and where another Ray runs on the machine not know which to take.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ[DASHBOARD_VARIABLE] = f"http://127.0.0.1:{port}"
    return {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}


def starts_local_ray(address: str | None) -> bool:
    """Tell whether a session with this address starts a cluster of its own."""
    return _chosen(address) == "local"


def _chosen(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


def _told_to_workers() -> dict[str, str]:
    """Where this process finds its object store, which those of a running cluster do not know.

    A job that was submitted with the variable has told them, and may not do so twice.
    """
    submitted = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")
    if ENDPOINT_VARIABLE not in os.environ or ENDPOINT_VARIABLE in submitted:
        return {}
    return {ENDPOINT_VARIABLE: os.environ[ENDPOINT_VARIABLE]}


def _check_reachable(address: str) -> None:
    """Refuse HOST:PORT where nobody listens; Ray itself would try for many minutes."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, reason: str) -> UserError:
    if address == "local":
        return UserError(
            f"Ray cannot start on this machine ({reason}): see to the disk and the memory, or join "
            "a running cluster by --ray-address; --verbose shows Ray's own messages"
        )
    return UserError(
        f"Ray at {address!r} cannot be joined ({reason}): start one with cluster/local/up, "
        "check the address and the token, or use --ray-address local"
    )


def _quieten(verbose: bool) -> None:
    """Hide Ray's own messages, here and in every process it starts."""
    if verbose:
        return
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("ray.tune.tune", "ray.tune.execution.tune_controller"):
        # A sweep tells itself which trials failed, and of a user's mistake no traceback.
        logging.getLogger(name).setLevel(logging.CRITICAL)
