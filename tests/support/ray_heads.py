"""Start Ray clusters of the test's own on loopback, with a fake autoscaler if asked for."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.sockets import free_ports

HEAD_ID = "f" * 51 + "00000"
"""Id of the head's node, as the fake node provider expects it."""

RAY = [sys.executable, "-m", "ray.scripts.scripts"]

FAKE_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""The provider by its name in Ray needs a file that the packages of Ray lack, for version 2."""

SECONDS_TO_END = 10


class RayHead:
    """Hold a cluster whose head was started by `ray start`.

    Attributes:
        address: host and port of the head.
        environment: environment of processes that join it.
    """

    def __init__(self, address, environment, folder):
        self.address, self.environment = address, environment
        self._folder = folder

    def start(self, *words, **options):
        """Start a Python process that joins the cluster, and return it."""
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=self.environment | {"RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def add_node(self, cpus):
        """Add a node, and return the process of its raylet."""
        before = set(self._raylets())
        command = [
            *(*RAY, "start", f"--address={self.address}", f"--num-cpus={cpus}"),
            *("--node-ip-address=127.0.0.1", "--object-store-memory=100000000"),
        ]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=60)
        (added,) = set(self._raylets()) - before
        return added

    def processes(self):
        """Return all processes of the cluster: those that name its folder or its address."""
        return [process for process, words in _command_lines() if self._is_own(words)]

    def _raylets(self):
        return [
            process
            for process, words in _command_lines()
            if words[0].endswith("/raylet") and self._is_own(words)
        ]

    def _is_own(self, words):
        return any(str(self._folder) in word or self.address in word for word in words)

    def stop(self):
        """End the processes of the cluster."""
        deadline = time.monotonic() + SECONDS_TO_END
        while (processes := self.processes()) and time.monotonic() < deadline:
            for process in processes:
                for each in [*_children(process), process]:
                    _kill(each)
            psutil.wait_procs(processes, timeout=1)


def end_node(raylet):
    """End a node at once, with its workers, as a spot machine that is taken away."""
    for process in [raylet, *_children(raylet)]:
        _kill(process)


@contextmanager
def ray_head(cpus, groups=None, autoscaler=1):
    """Start a cluster, yield it, and end its processes.

    Args:
        cpus: CPUs of the head.
        groups: resources and largest number of the nodes that a fake autoscaler starts, by name;
            None without an autoscaler.
        autoscaler: version of Ray's autoscaler.
    """
    folder = Path(tempfile.mkdtemp(prefix="head", dir="/tmp"))  # sockets need a short path
    port, client_port = free_ports(2)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # 0 keeps Ray on loopback; it also lets nobody but an autoscaler add nodes.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1" if groups is None else "0",
        "RAY_worker_niceness": "0",
    }
    command = [
        *(*RAY, "start", "--head", f"--port={port}", f"--temp-dir={folder}/ray"),
        *(f"--num-cpus={cpus}", "--num-gpus=0", "--node-ip-address=127.0.0.1"),
        *("--include-dashboard=false", "--object-store-memory=100000000"),
        *(f"--ray-client-server-port={client_port}", "--disable-usage-stats"),
    ]
    address = f"127.0.0.1:{port}"
    started = environment
    if groups is not None:
        (folder / "autoscaler.json").write_text(json.dumps(_autoscaling(address, cpus, groups)))
        command.append(f"--autoscaling-config={folder}/autoscaler.json")
        started = environment | {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": str(int(autoscaler == 2)),
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        }
    head = RayHead(address, environment, folder)
    try:
        subprocess.run(command, env=started, check=True, capture_output=True, timeout=150)
        yield head
    finally:
        head.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _autoscaling(address, cpus, groups):
    types = {
        name: {"resources": resources, "max_workers": most, "min_workers": 0, "node_config": {}}
        for name, (resources, most) in groups.items()
    }
    types["ray.head.default"] = {"resources": {"CPU": cpus}, "max_workers": 0, "node_config": {}}
    folders = {key: {} for key in ("auth", "docker", "file_mounts")}
    commands = [
        f"{when}_commands"
        for when in (
            "initialization",
            "setup",
            "head_setup",
            "worker_setup",
            "head_start_ray",
            "worker_start_ray",
        )
    ]
    lists = {
        key: [] for key in (*commands, "cluster_synced_files", "rsync_exclude", "rsync_filter")
    }
    return (
        folders
        | lists
        | {
            "cluster_name": "fake",
            "max_workers": sum(most for _, most in groups.values()),
            "provider": {
                "type": "external",
                "module": FAKE_PROVIDER,
                "gcs_address": address,
                "head_node_id": HEAD_ID,
                "launch_multiple": True,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "available_node_types": types,
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": 5,
            "file_mounts_sync_continuously": False,
        }
    )


def _command_lines():
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if words:
            yield process, words


def _children(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(process):
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
