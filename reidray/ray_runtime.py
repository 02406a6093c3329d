"""Start Ray on this machine for the duration of a job, or join a running cluster."""

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reidray.config.sections.durations import DEFAULT_WAIT, parse_duration
from reidray.errors import MachineError, UserError
from reidray.interrupts import interrupted
from reidray.progress import SHOW_AFTER_SECONDS, Activity
from reidray.storage.connections.s3_connections import ENDPOINT_VARIABLE

WITHOUT_RAY = "none"
"""Address that names no Ray: a training then runs in this process."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Variable of the environment that gives the address where a job does not."""

CONNECT_SECONDS = 10
LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
HIDDEN_MESSAGES_VARIABLE = "RAY_DEDUP_LOGS_SKIP_REGEX"

RAYLET_LOG = r"Raylet is terminated\. Termination is unexpected\."
"""Start of a message with the last 20 lines of the log of a raylet that has died, mostly counters.

Two processes of the node send it. The head reports the lost node in another message.
"""

DASHBOARD_VARIABLE = "RAY_API_SERVER_ADDRESS"

SOCKET_PATH_BYTES = 103
"""Bytes that the path of a socket has at most on any system."""

SOCKET_NAME_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
"""Bytes that Ray adds to the folder for temporary files in the paths of its sockets."""

SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

WORKER_SETTINGS = {
    # OpenMP threads that spin for long while they wait slow down a shared machine by a factor of
    # eight. Threads that sleep at once cost a training on two cores a fifth of its images/s.
    "GOMP_SPINCOUNT": "1000",
    # Bytes. By default glibc returns the memory of each layer's output to the system and requests
    # it again page by page, which takes some processes a quarter of their time.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""Environment variables of the processes that a local Ray starts."""


@contextmanager
def ray_session(
    address: str | None = None,
    *,
    verbose: bool = False,
    dashboard: bool = False,
    needs_gpu: str | None = None,
    wait_for_resources: str = DEFAULT_WAIT,
) -> Iterator[None]:
    """Connect to Ray while the block runs, and disconnect or stop it afterwards.

    Args:
        address: `local` starts Ray on this machine; `auto` or HOST:PORT joins a running cluster.
            None joins the cluster in RAY_ADDRESS, which Ray sets for a submitted job, or else
            starts Ray on this machine.
        verbose: whether to show Ray's own messages.
        dashboard: whether to require Ray's dashboard, which a local Ray starts on loopback. Ray
            Tune needs it to stop a trial that Ray Train trains: without it, the trial keeps its
            resources for ever.
        needs_gpu: setting of the user that needs a GPU, for the message where Ray would start on a
            machine without one; None where a CPU does too.
        wait_for_resources: time that the job waits for CPUs and GPUs, as `90s`, `10m` or `1h`.

    Raises:
        UserError: the address is `none`, no cluster answers at it, the cluster has no dashboard
            and needs one, this machine has no GPU and needs one, or the time has another form.
        MachineError: Ray did not start in time.
    """
    if not uses_ray(address):
        given = "`ray_address=none`" if address else f"{ADDRESS_VARIABLE}=none"
        raise UserError(
            f"{given} is for train_reid and train_multitask, and what this job does needs Ray: use "
            "`ray_address=local`, which starts Ray on this machine where the job needs it"
        )
    patience = _parse_wait(wait_for_resources)
    set_import_variables(address, verbose=verbose)
    address = _resolve_address(address)
    is_local = address == "local"
    if is_local and needs_gpu is not None:
        _check_gpu_here(needs_gpu)
    doing = "starting Ray" if is_local else f"joining Ray at {address}"
    with _folder_for_sockets(address) as folder:
        with Activity(doing, delay=0.0 if is_local else SHOW_AFTER_SECONDS):
            joined = _connect(address, folder, verbose=verbose, dashboard=dashboard)
        try:
            if dashboard and not joined.dashboard_url:
                raise UserError(
                    f"Ray at {address!r} has no dashboard, which trials of several workers need to "
                    "be stopped: start one with cluster/local/up, or use `ray_address=local`"
                )
            from reidray.cluster_resources import watching_waits  # imports Ray

            with watching_waits(patience, is_shared=not is_local):
                yield
        finally:
            if not interrupted():  # an interrupted job ends at once, and Ray with it
                import ray

                with Activity("stopping Ray" if is_local else "leaving Ray"):
                    ray.shutdown()
            if is_local and dashboard:
                del os.environ[DASHBOARD_VARIABLE]


def gpu_setting(use_gpu: str) -> str | None:
    """Return `use_gpu=yes` for a message, or None for another value, with which a CPU serves."""
    return "`use_gpu=yes`" if use_gpu == "yes" else None


def _parse_wait(text: str) -> float:
    try:
        return parse_duration(text, "wait_for_resources")
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_gpu_here(setting: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"{setting} needs a GPU, and this machine has none that PyTorch can use: leave it out, "
            "or join a cluster that has GPUs with `ray_address`"
        )


def _connect(address: str, folder: str | None, *, verbose: bool, dashboard: bool) -> Any:
    """Connect to Ray at an address, and return its description of the connection."""
    import ray  # takes a second, which a nightly run with few new images saves

    _quieten(verbose)
    _check_reachable(address)
    options: dict[str, object] = {}
    if address == "local":
        options = _local_dashboard() if dashboard else {"include_dashboard": False}
        for name, value in (WORKER_SETTINGS | _loopback_settings()).items():
            os.environ.setdefault(name, value)
    else:
        options["runtime_env"] = {"env_vars": _worker_environment()}
    try:
        joined = ray.init(
            address=address,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            configure_logging=True,
            _temp_dir=folder,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(address, str(error).strip().splitlines()[0]) from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # The type that Ray raises where its processes do not start in time.
        reason = " ".join(str(error).split()).rstrip(".")
        raise MachineError(
            f"Ray did not start at {address!r} ({reason}): the machine may be busy, or short of "
            "memory; run the job again, with `verbose=True` for Ray's own messages"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.print_on_execution_start = verbose
    return joined


def _loopback_settings() -> dict[str, str]:
    """Return the variables by which Gloo and NCCL stay on loopback, as the Ray that they serve."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    return {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": f"={loopback}"}


@contextmanager
def _folder_for_sockets(address: str) -> Iterator[str | None]:
    """Make a folder for the files of a local Ray, if the path of its usual folder is too long.

    Yields:
        The folder, which is removed afterwards; None if Ray's usual folder serves.

    Raises:
        UserError: no folder with a short path can be written.
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


def set_import_variables(address: str | None, *, verbose: bool) -> None:
    """Set the variables of the environment that Ray reads when it is imported.

    By default a local Ray listens on every interface; with `LOOPBACK_VARIABLE` set to 0, it stays
    on loopback, as on a Mac. Without Ray's own messages, the logs of dead raylets are hidden too.
    """
    if starts_local_ray(address):
        os.environ.setdefault(LOOPBACK_VARIABLE, "0")
    if not verbose:
        os.environ.setdefault(HIDDEN_MESSAGES_VARIABLE, RAYLET_LOG)


def _local_dashboard() -> dict[str, object]:
    """Return the options of `ray.init` for a dashboard, and put its address in the environment.

    The processes that Ray starts would search for it, and may find that of another Ray.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ[DASHBOARD_VARIABLE] = f"http://127.0.0.1:{port}"
    return {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}


def starts_local_ray(address: str | None) -> bool:
    """Return whether a session with this address starts Ray on this machine."""
    return _resolve_address(address) == "local"


def uses_ray(address: str | None) -> bool:
    """Return whether a session with this address starts or joins Ray."""
    return _resolve_address(address) != WITHOUT_RAY


def _resolve_address(address: str | None) -> str:
    return address or os.environ.get(ADDRESS_VARIABLE) or "local"


def _worker_environment() -> dict[str, str]:
    """Return the endpoint of the object store, which the workers of a running cluster do not have.

    If the job was submitted with the variable, they have it, and Ray refuses to set it twice.
    """
    submitted = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")
    if ENDPOINT_VARIABLE not in os.environ or ENDPOINT_VARIABLE in submitted:
        return {}
    return {ENDPOINT_VARIABLE: os.environ[ENDPOINT_VARIABLE]}


def _check_reachable(address: str) -> None:
    """Check that a head answers at an address and lets this process join.

    Ray itself would try for many minutes.
    """
    if address == "local":
        return
    client = re.fullmatch(r"ray://\[?([^/\]]+)\]?:(\d+)", address)
    try:
        if client is not None:  # the server of Ray Client is not the head
            _check_answers(client[1], int(client[2]))
        else:
            _check_head(address)
    except (OSError, OverflowError, ValueError) as error:
        raise _unreachable(address, str(error)) from error


def _check_answers(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()


def _check_head(address: str) -> None:
    from reidray.head_checks import TokenRefusedError, check_head, find_head  # imports Ray

    found = find_head(address)
    try:
        _check_answers(found.host, found.port)
    except OSError as error:
        raise OSError(f"{error} at {found}") from error
    try:
        check_head(str(found))
    except TokenRefusedError:
        raise UserError(
            f"Ray at {address!r} refuses the token of this process, or its lack of one: `source` "
            "the env file of cluster/local/up, or set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH "
            "to a copy of the head's token"
        ) from None


def _unreachable(address: str, reason: str) -> UserError:
    if address == "local":
        return UserError(
            f"Ray cannot start on this machine ({reason}): check the disk and the memory, or join "
            "a running cluster by `ray_address`; `verbose=True` shows Ray's own messages"
        )
    return UserError(
        f"Ray at {address!r} cannot be joined ({reason}): start one with cluster/local/up and "
        "`source` its env file, check the address, or use `ray_address=local`"
    )


def _quieten(verbose: bool) -> None:
    """Hide Ray's own messages in this process and in every process that Ray starts."""
    if verbose:
        return
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("ray.tune.tune", "ray.tune.execution.tune_controller"):
        # A sweep reports failed trials itself, without the traceback of a user's mistake.
        logging.getLogger(name).setLevel(logging.CRITICAL)
