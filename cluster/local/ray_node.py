"""Start the Ray processes of a machine, and wait until they respond."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import local_cluster
from job_api import JobApi
from local_cluster import LocalCluster
from node_network import LOOPBACK, NodePorts
from ray_processes import end_processes, load_psutil

from reidray.errors import MachineError, UserError
from reidray.ray_runtime import WORKER_SETTINGS

START_SECONDS = 90


@dataclass(frozen=True)
class RayNode:
    """Describe the part of a cluster that runs on this machine.

    Attributes:
        host: address of this machine in the cluster.
        interface: network interface that has the address.
        ports: ports of the processes.
        head: HOST:PORT of the head that this machine joins; None on the head itself.
        dashboard_port: port of the dashboard and the job API, which are on the head.
        num_cpus: CPUs to offer; None for all.
        num_gpus: GPUs to offer; None for all.
        token_file: file with the token of the cluster.
    """

    host: str
    interface: str
    ports: NodePorts
    head: str | None
    dashboard_port: int
    num_cpus: int | None
    num_gpus: int | None
    token_file: Path

    @property
    def address(self) -> str:
        """Return HOST:PORT of the head of the cluster."""
        return self.head or f"{self.host}:{self.ports.first}"

    @property
    def dashboard(self) -> str | None:
        """Return the URL of the dashboard; None on a machine that joins."""
        return None if self.head else f"http://{LOOPBACK}:{self.dashboard_port}"

    def command(self, temp_dir: Path) -> list[str]:
        """Return the command `ray start` of this machine.

        Raises:
            UserError: the environment of this Python has no Ray.
        """
        ray = Path(sys.executable).with_name("ray")
        if not ray.exists():
            raise UserError(
                f"no ray beside {sys.executable}: run this with `uv run cluster/local/up`"
            )
        options: dict[str, object] = {"temp-dir": temp_dir, "node-ip-address": self.host}
        if self.head:
            options |= {"address": self.head, **self.ports.node_options}
        else:
            options |= {"dashboard-host": LOOPBACK, "dashboard-port": self.dashboard_port}
            options |= self.ports.head_options
        if self.num_cpus is not None:
            options["num-cpus"] = self.num_cpus
        if self.num_gpus is not None:
            options["num-gpus"] = self.num_gpus
        given = [f"--{name}={value}" for name, value in options.items()]
        role = [] if self.head else ["--head"]
        return [str(ray), "start", "--block", "--disable-usage-stats", *role, *given]

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes of Ray, which every job inherits."""
        # Gloo would take the address of the host name, which many systems map to loopback.
        interfaces = {
            "GLOO_SOCKET_IFNAME": self.interface,
            "NCCL_SOCKET_IFNAME": f"={self.interface}",  # without =, eth1 stands for eth10 too
        }
        environment = {**WORKER_SETTINGS, **interfaces, **os.environ}
        for name in ("RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            environment.pop(name, None)
        environment |= local_cluster.ray_settings(self.address, str(self.token_file))
        if self.dashboard:
            # Ray Train's processes on the head ask the dashboard which actors live. They would
            # search for it, and fail where another Ray runs on this machine.
            environment |= {"RAY_API_SERVER_ADDRESS": self.dashboard, **self.ports.head_variables}
        # `down` ends the processes at once.
        environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
        # A submitted job then runs this Python as `python`.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return environment


def start_node(node: RayNode) -> LocalCluster:
    """Start the processes of Ray, wait until they respond, and record them.

    Raises:
        UserError: the environment has no Ray, or its folder belongs to another user.
        MachineError: the processes do not start.
    """
    temp_dir = private_temp_dir()
    command = node.command(temp_dir)
    if node.token_file == local_cluster.own_token_path().resolve():
        local_cluster.write_private(node.token_file, secrets.token_hex(32))

    log = local_cluster.state_folder() / "ray.log"
    with log.open("w") as output:
        leader = subprocess.Popen(
            command,
            env=node.environment(),
            cwd=temp_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = load_psutil().Process(leader.pid)
    recorded = ((leader.pid, process.create_time()),)
    cluster = LocalCluster(
        address=node.address,
        dashboard=node.dashboard,
        token_file=str(node.token_file),
        temp_dir=str(temp_dir),
        processes=recorded,
    )
    cluster.save()
    try:
        wait_until_serving(leader, cluster, log)
    except BaseException:
        end_processes(cluster.living())
        cluster.forget()
        raise
    children = ((child.pid, child.create_time()) for child in process.children(recursive=True))
    cluster = replace(cluster, processes=(*recorded, *children))
    cluster.save()
    return cluster


def private_temp_dir() -> Path:
    """Return Ray's folder for the clusters of this user, which only the user can enter.

    The path is short, because the path of a socket has at most 107 bytes. Ray's default folder does
    not serve: a `ray.init()` of another program on this machine would find the address of this
    cluster there and connect to it. Ray makes its folder readable for all users of the machine, so
    the folder lies in a private one.

    Raises:
        UserError: another user owns the private folder, or can write to it.
    """
    folder = Path(tempfile.gettempdir()) / f"reidray-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"{folder} is not this user's own: remove it or set TMPDIR")
    return folder / "ray"


def wait_until_serving(leader: subprocess.Popen[bytes], cluster: LocalCluster, log: Path) -> None:
    """Wait until the node responds, and on a head also its job API.

    Raises:
        MachineError: Ray ended, or did not respond within `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if leader.poll() is not None:
            lines = [line for line in log.read_text().splitlines() if line.strip()]
            raise MachineError(
                f"Ray did not start: {lines[-1] if lines else 'it said nothing'} (log: {log})"
            )
        if "Ray runtime started." in log.read_text() and (
            cluster.dashboard is None or jobs_served(JobApi(cluster.dashboard, cluster.token_file))
        ):
            return
        time.sleep(0.2)
    raise MachineError(f"Ray did not come up within {START_SECONDS} s (log: {log})")


def jobs_served(api: JobApi) -> bool:
    """Return whether the job API responds and accepts the token."""
    try:
        api.jobs()
    except (UserError, MachineError):
        return False
    return True
