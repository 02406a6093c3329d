"""Record, reach and end the Ray cluster that `up` starts on this machine."""

import contextlib
import importlib.util
import ipaddress
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reidray.errors import UserError


class ClusterError(Exception):
    """Report a failure of the cluster that is no mistake of the user: exit status 1."""


@dataclass(frozen=True)
class LocalCluster:
    """Hold what `up` started on this machine, as the record keeps it for the other commands."""

    address: str
    """HOST:PORT of the head."""
    dashboard: str | None
    """URL of the dashboard and the job API; None on a machine that joined."""
    token_file: str
    temp_dir: str
    """Folder of Ray: sessions, logs, sockets and the uploaded working directories."""
    processes: tuple[tuple[int, float], ...]
    """(pid, start time in seconds) of the processes that were started."""

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

        A pid alone proves nothing, since the system gives it to another process in time; the
        start time tells the two apart.
        """
        psutil = load_psutil()
        living = []
        for pid, started in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                # Adjusting the clock moves start times by a little; no pid returns that soon.
                if abs(process.create_time() - started) < 2 and is_alive(process):
                    living.append(process)
        return living

    def save(self) -> None:
        """Write the record, and a file of settings for `source`."""
        exports = [f"export {name}={value}" for name, value in self.settings.items()]
        write_private(env_path(), "\n".join(["unset RAY_AUTH_TOKEN", *exports]) + "\n")
        write_private(record_path(), json.dumps(asdict(self)) + "\n")

    def forget(self) -> None:
        """Remove the record, the token that `up` made, and Ray's note of where to connect.

        Ray leaves that note behind, and a driver that believes it waits for a dead cluster.
        """
        note = Path(self.temp_dir) / "ray_current_cluster"
        if note.is_file() and note.read_text().strip() == self.address:
            note.unlink()
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
    """Return the recorded cluster, whether or not it still runs; None without a record."""
    if not record_path().is_file():
        return None
    record = json.loads(record_path().read_text())
    processes = tuple((int(pid), float(started)) for pid, started in record.pop("processes"))
    return LocalCluster(**record, processes=processes)


def running_cluster() -> LocalCluster:
    """Return the cluster that runs on this machine.

    Raises:
        UserError: none is up, or it has died.
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


def is_loopback(host: str) -> bool:
    """Tell whether nothing outside this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ray_settings(address: str, token_file: str) -> dict[str, str]:
    """Return the environment variables of a Ray process that belongs or talks to a head."""
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token_file}
    # Every machine of the cluster has the environment; under `uv run` Ray would install it again.
    settings["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    if is_loopback(address.rpartition(":")[0]):
        # Ray turns 127.0.0.1 into the machine's outer address and then listens on every
        # interface; told that it is alone, as on a Mac, it stays on loopback.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return settings


def read_token(token_file: str) -> str:
    """Return the token in `token_file`.

    Raises:
        UserError: it is missing, empty, or readable by other users.
    """
    path = Path(token_file)
    if not path.is_file():
        raise UserError(f"token file {token_file}: no such file; copy the head's token there")
    if path.stat().st_mode & 0o077:
        raise UserError(f"token file {token_file}: other users may read it; chmod 600 {token_file}")
    token = path.read_text().strip()
    if not token:
        raise UserError(f"token file {token_file}: empty; copy the head's token there")
    return token


def ask(dashboard: str, token_file: str, path: str) -> Any:
    """Return the JSON answer of the dashboard to a GET of `path`.

    Raises:
        UserError: nothing answers there, or the token is not the cluster's.
    """
    headers = {"Authorization": f"Bearer {read_token(token_file)}"}
    try:
        request = urllib.request.Request(dashboard + path, headers=headers)
        # A proxy has no business between this machine and its own dashboard.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise UserError(
                f"token file {token_file}: the cluster at {dashboard} refuses this token"
            ) from None
        raise ClusterError(f"{dashboard}{path} answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot reach a cluster at {dashboard}: {error}") from None


def load_psutil() -> Any:
    """Return the psutil inside Ray without importing Ray.

    Ray reads its settings as it is imported, so `submit` must not import it before they are set.
    """
    ray = importlib.util.find_spec("ray")
    if ray is None or ray.origin is None:
        raise UserError("Ray is not installed here: run this with `uv run cluster/local/...`")
    bundled = str(Path(ray.origin).parent / "thirdparty_files")
    if bundled not in sys.path:
        sys.path.append(bundled)
    return importlib.import_module("psutil")


def end_processes(processes: list[Any]) -> None:
    """End these processes and their children: ask them first, then kill them.

    Raises:
        ClusterError: some outlived even that.
    """
    family = list(processes)
    for process in processes:
        with contextlib.suppress(load_psutil().NoSuchProcess):
            family += process.children(recursive=True)
    # The first is the parent of all, and when asked ends the others in good order.
    for targets, number, patience in (
        (processes[:1], signal.SIGTERM, 10),
        (family, signal.SIGTERM, 5),
        (family, signal.SIGKILL, 5),
    ):
        deadline = time.monotonic() + patience
        for process in filter(is_alive, targets):
            with contextlib.suppress(load_psutil().NoSuchProcess):
                process.send_signal(number)
        while any(map(is_alive, targets)) and time.monotonic() < deadline:
            time.sleep(0.05)
    if left := [process.pid for process in family if is_alive(process)]:
        raise ClusterError(f"still running after being killed: {left}")


def is_alive(process: Any) -> bool:
    """Tell whether this very process runs; one that has ended and waits for its parent does not."""
    psutil = load_psutil()
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def exit_with(main: Callable[[], int]) -> None:
    """Run a command and leave with its status: 2 for a user's mistake, 1 for a failure."""
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except ClusterError as error:
        print(f"failed: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)
