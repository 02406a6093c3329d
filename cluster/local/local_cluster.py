"""Record, reach and end the Ray cluster that `up` starts on this machine."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from node_network import is_loopback
from ray_processes import is_alive, load_psutil

from reidray.errors import UserError


@dataclass(frozen=True)
class LocalCluster:
    """Hold the record of the cluster that `up` started on this machine.

    Attributes:
        address: HOST:PORT of the head.
        dashboard: URL of the dashboard and the job API; None on a machine that joined.
        token_file: file with the token of the cluster.
        temp_dir: folder of Ray: sessions, logs, sockets and the uploaded working directories.
        processes: (pid, start time in seconds since 1970) of the processes that were started.
    """

    address: str
    dashboard: str | None
    token_file: str
    temp_dir: str
    processes: tuple[tuple[int, float], ...]

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment variables with which any Ray program reaches this cluster."""
        settings = ray_settings(self.address, self.token_file)
        settings["RAY_ADDRESS"] = self.address
        if self.dashboard:
            settings["RAY_API_SERVER_ADDRESS"] = self.dashboard
        return settings

    def living(self) -> list[Any]:
        """Return the recorded processes that still run, the parent of all first.

        The system may give the pid of a process that has ended to a new process. The start time
        identifies the recorded process.
        """
        psutil = load_psutil()
        living = []
        for pid, started in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                # Adjusting the clock changes start times slightly. No pid is used again within 2 s.
                if abs(process.create_time() - started) < 2 and is_alive(process):
                    living.append(process)
        return living

    def save(self) -> None:
        """Write the record, and a file of settings for `source`."""
        exports = [f"export {name}={quote(value)}" for name, value in self.settings.items()]
        write_private(env_path(), "\n".join(["unset RAY_AUTH_TOKEN", *exports]) + "\n")
        write_private(record_path(), json.dumps(asdict(self)) + "\n")

    def forget(self) -> None:
        """Remove the record, the token that `up` made, and Ray's file with the address.

        Ray does not remove that file, and a driver that reads it waits for a cluster that has
        ended.
        """
        address_file = Path(self.temp_dir) / "ray_current_cluster"
        if address_file.is_file() and address_file.read_text().strip() == self.address:
            address_file.unlink()
        if Path(self.token_file) == own_token_path():
            own_token_path().unlink(missing_ok=True)
        env_path().unlink(missing_ok=True)
        record_path().unlink(missing_ok=True)


def state_folder() -> Path:
    """Return the folder of the record, the token and the log, which only this user can read."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(base) / "reidray" / "cluster"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def record_path() -> Path:
    """Return the path of the record that `up` writes and `down` removes."""
    return state_folder() / "cluster.json"


def env_path() -> Path:
    """Return the path of the file to `source` before a Ray command."""
    return state_folder() / "env"


def own_token_path() -> Path:
    """Return the path of the token that `up` makes if no token is given."""
    return state_folder() / "token"


def write_private(path: Path, text: str) -> None:
    """Write a whole file that has mode 0600 from its first byte."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    staged.replace(path)


def recorded_cluster() -> LocalCluster | None:
    """Return the recorded cluster, which may have ended; None without a record."""
    if not record_path().is_file():
        return None
    record = json.loads(record_path().read_text())
    processes = tuple((int(pid), float(started)) for pid, started in record.pop("processes"))
    return LocalCluster(**record, processes=processes)


def running_cluster() -> LocalCluster:
    """Return the cluster that runs on this machine.

    Raises:
        UserError: no cluster is up, or its processes have ended.
    """
    cluster = recorded_cluster()
    if cluster is None:
        raise UserError("no cluster is up on this machine: start one with cluster/local/up")
    if not cluster.living():
        raise UserError(
            f"the cluster at {cluster.address} has died: its log is {state_folder() / 'ray.log'}; "
            "clear it away with cluster/local/down"
        )
    return cluster


def ray_settings(address: str, token_file: str) -> dict[str, str]:
    """Return the environment variables of Ray processes that run a head or connect to it."""
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token_file}
    # Under `uv run` Ray would install the environment again, which every machine has already.
    settings["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    if is_loopback(address.rpartition(":")[0]):
        # Ray replaces 127.0.0.1 by the external address of the machine and then listens on every
        # interface. Without support for clusters, as on macOS, it listens on loopback.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return settings


def read_token(token_file: str) -> str:
    """Return the token in `token_file`.

    Raises:
        UserError: the file is missing, empty, readable by other users, or holds no token.
    """
    path = Path(token_file)
    if not path.is_file():
        raise UserError(f"token file {token_file}: no such file; copy the head's token there")
    if path.stat().st_mode & 0o077:
        raise UserError(f"token file {token_file}: other users may read it; chmod 600 {token_file}")
    try:
        token = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise UserError(
            f"token file {token_file}: {error.strerror}; let this user read it"
        ) from None
    if not token:
        raise UserError(f"token file {token_file}: empty; copy the head's token there")
    if not (token.isascii() and token.isprintable()):
        raise UserError(f"token file {token_file}: no token; copy the file of the head as it is")
    return token
