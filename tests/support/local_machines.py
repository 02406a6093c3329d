"""Machines as `cluster/local` sees them: folders of their own, and networks if asked for."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

from support.paths import ROOT

LOCAL = ROOT / "cluster" / "local"
SWITCH = ROOT / "tests" / "support" / "networks" / "switch"
ENTER = ["nsenter", "--user", "--preserve-credentials", "--pid", "--mount", "--net"]


class Machine:
    """One machine: a state folder, a temporary folder and the programs that enter its network.

    Attributes:
        state: folder for the record, the token and the log of the cluster.
        environment: environment of the commands.
        enter: words of a command that come before a command on this machine.
    """

    def __init__(self, folder, enter=()):
        folder.mkdir(exist_ok=True)
        self.state = folder / "state"
        self.enter = list(enter)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "XDG_STATE_HOME": str(self.state),
            "TMPDIR": str(folder),
            "RAY_worker_niceness": "0",
        }

    @property
    def folder(self):
        return self.state / "reidray" / "cluster"

    @property
    def token(self):
        return self.folder / "token"

    def start(self, command, *arguments):
        """Start a script of `cluster/local`, and return the process."""
        return self.start_program(sys.executable, LOCAL / command, *arguments)

    def start_program(self, *words):
        return subprocess.Popen(
            [*self.enter, *map(str, words)],
            env=self.environment,
            cwd=self.environment["TMPDIR"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command, *arguments, timeout=120):
        """Run a script of `cluster/local`, and return how it ended."""
        return finish(self.start(command, *arguments), timeout)

    def run_program(self, *words, timeout=120):
        return finish(self.start_program(*words), timeout)

    def record(self):
        return json.loads((self.folder / "cluster.json").read_text())

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def processes(self):
        """Return the processes of Ray on this machine, with their command lines."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("XDG_STATE_HOME") == str(self.state):
                    found.append((process, " ".join(process.cmdline())))
        return found

    def kill_raylet(self):
        """Kill the process that manages this machine, which the cluster then loses."""
        for process, command in self.processes():
            if command.split(" ")[0].endswith("/raylet"):
                process.kill()


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finish(process, timeout=120):
    """Wait for a process, and return how it ended."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(condition, timeout=60):
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


@contextmanager
def connected_machines(folder, count):
    """Make machines in network namespaces of their own, and yield them.

    Their addresses are 10.77.0.1 and so on. All their processes end with the block.
    """
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "ss"))):
        pytest.skip("needs util-linux and iproute2")
    holder = subprocess.Popen([SWITCH, str(count)], stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip("needs the right to make namespaces")
        below = psutil.Process(holder.pid).children(recursive=True)
        nodes = sorted(each.pid for each in below if each.name() == "sleep")
        yield [
            Machine(folder / str(number), [*ENTER, f"--target={node}"])
            for number, node in enumerate(nodes, 1)
        ]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
