"""`cluster/local`: real Ray processes, on ports and in folders of the test's own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.paths import ROOT
from support.sockets import free_ports, is_loopback, listening_addresses

LOCAL = ROOT / "cluster" / "local"

pytestmark = pytest.mark.cluster

JOB = """
import sys
import reidray
print("code from", reidray.WHERE)
print("a line on stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


class Machine:
    """One machine as the scripts see it: a state folder and a temporary folder of its own."""

    def __init__(self, folder):
        self.state = folder / "state"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "XDG_STATE_HOME": str(self.state),
            "TMPDIR": str(folder),
        }

    def run(self, command, *arguments):
        return subprocess.run(
            [sys.executable, LOCAL / command, *map(str, arguments)],
            env=self.environment,
            cwd=self.environment["TMPDIR"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def folder(self):
        return self.state / "reidray" / "cluster"

    def record(self):
        return json.loads((self.folder / "cluster.json").read_text())


@pytest.fixture(scope="module")
def short_folder():
    # Not tmp_path: Ray's socket paths may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machine(short_folder, request):
    folder = short_folder / str(abs(hash(request.node.name)) % 10**4)
    folder.mkdir()
    machine = Machine(folder)
    yield machine
    machine.run("down")


def is_running(pid):
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def http_status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_jobs_run_on_a_private_cluster_that_down_ends_alone(machine):
    port, dashboard_port = free_ports(2)
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    options = ("--port", port, "--dashboard-port", dashboard_port, "--num-cpus", 2)
    up = machine.run("up", *options)
    assert up.returncode == 0, up.stderr
    assert (machine.folder / "token").stat().st_mode & 0o777 == 0o600
    pids = [pid for pid, _ in machine.record()["processes"]]
    assert len(pids) > 3
    assert all(map(is_running, pids))

    addresses = listening_addresses(pids)
    assert addresses
    assert all(map(is_loopback, addresses))
    assert http_status(dashboard + "/api/jobs/") == 401

    again = machine.run("up", *options)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "already up" in again.stderr

    check_exit_statuses_and_logs(machine)

    shown = machine.run("status", "--json")
    report = json.loads(shown.stdout)
    assert [(n["ip"], n["state"], n["cpus"]) for n in report["nodes"]] == [
        ("127.0.0.1", "ALIVE", 2)
    ]
    assert report["resources"]["CPU"]["total"] == 2
    assert sorted(job["exit_code"] for job in report["jobs"]) == [0, 1, 2]
    assert dashboard in machine.run("status").stdout

    bystander = subprocess.Popen(["sleep", "300"])
    try:
        down = machine.run("down")
        assert down.returncode == 0, down.stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert not [pid for pid in pids if is_running(pid)]
    assert [path.name for path in machine.folder.iterdir()] == ["ray.log"]
    assert not list(Path(machine.environment["TMPDIR"]).rglob("ray_current_cluster"))


def check_exit_statuses_and_logs(machine):
    project = Path(machine.environment["TMPDIR"]) / "project"
    for name, text in {
        "job.py": JOB,
        "reidray/__init__.py": "WHERE = 'the upload'",
        ".gitignore": "ignored",
        "ignored": "",
        "runs/large": "",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    submit = ("submit", "--working-dir", project, "--", "sh", "-c")
    with ThreadPoolExecutor(3) as pool:
        runs = list(
            pool.map(lambda code: machine.run(*submit, f"ls; python job.py {code}"), (0, 2, 1))
        )
    assert [run.returncode for run in runs] == [0, 2, 1], [run.stderr for run in runs]
    for run in runs:
        lines = run.stdout.splitlines()
        assert "code from the upload" in lines
        assert "a line on stderr" in lines
        assert " INFO " not in run.stderr.replace("\t", " ")
        assert "job.py" in lines
        assert "ignored" not in lines
        assert "runs" not in lines


def test_down_leaves_a_process_that_took_over_a_recorded_pid(machine):
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        machine.folder.mkdir(parents=True)
        record = {
            "address": "127.0.0.1:1",
            "dashboard": "http://127.0.0.1:1",
            "token_file": str(machine.folder / "token"),
            "temp_dir": machine.environment["TMPDIR"],
            "processes": [[bystander.pid, time.time() - 3600]],
        }
        (machine.folder / "cluster.json").write_text(json.dumps(record))
        note = Path(machine.environment["TMPDIR"]) / "ray_current_cluster"
        note.write_text("127.0.0.1:1")
        assert "has died" in machine.run("status").stderr
        assert machine.run("down").returncode == 0
        assert bystander.poll() is None
        assert not note.exists()
        assert not (machine.folder / "cluster.json").exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_down_ends_a_recorded_process_with_its_children(machine):
    parent = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE)
    started = time.time()
    child = int(parent.stdout.readline())
    machine.folder.mkdir(parents=True)
    record = {
        "address": "127.0.0.1:1",
        "dashboard": None,
        "token_file": "token",
        "temp_dir": machine.environment["TMPDIR"],
        "processes": [[parent.pid, started]],
    }
    (machine.folder / "cluster.json").write_text(json.dumps(record))
    assert machine.run("down").returncode == 0
    parent.stdout.close()
    assert parent.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)
    assert not is_running(child)


@pytest.mark.parametrize("command", [("down",), ("status",), ("submit", "--", "ls")])
def test_nothing_up_is_a_users_mistake(machine, command):
    run = machine.run(*command)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: no cluster is up on this machine")
    assert run.stderr.count("\n") == 1


def test_mistakes_are_named_before_anything_starts(machine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (closed,) = free_ports(1)
        folder = Path(machine.environment["TMPDIR"])
        token, open_token, empty = (folder / name for name in ("token", "open", "empty"))
        for path, text, mode in ((token, "t", 0o600), (open_token, "t", 0o644), (empty, "", 0o600)):
            path.write_text(text)
            path.chmod(mode)
        somewhere = f"192.0.2.254:{closed}"
        for arguments, words in {
            ("up", "--port", port): "--port",
            ("up", "--port", closed, "--dashboard-port", port): "--dashboard-port",
            ("up", "--address", "203.0.113.1"): "--address",
            ("up", "--join", somewhere): "--token-file",
            ("up", "--join", somewhere, "--token-file", folder / "none"): "no such file",
            ("up", "--join", somewhere, "--token-file", open_token): "chmod 600",
            ("up", "--join", somewhere, "--token-file", empty): "empty",
            ("up", "--join", f"127.0.0.1:{port}", "--token-file", token): "loopback",
            ("up", "--join", "head", "--token-file", token): "HEAD_IP:PORT",
            (
                "submit",
                "--address",
                f"http://127.0.0.1:{closed}",
                "--token-file",
                token,
                "--",
                "ls",
            ): ("cannot reach"),
        }.items():
            run = machine.run(*arguments)
            assert (run.returncode, run.stderr.count("\n")) == (2, 1), (arguments, run.stderr)
            assert words in run.stderr
    assert not (machine.folder / "cluster.json").exists()


def outer_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


@pytest.mark.slow
def test_a_second_machine_joins_by_address_with_the_token(machine, short_folder):
    address = outer_address()
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    (short_folder / "b").mkdir()
    second = Machine(short_folder / "b")
    port, dashboard_port = free_ports(2)
    options = ("--port", port, "--dashboard-port", dashboard_port, "--num-cpus", 1)
    up = machine.run("up", "--address", address, *options)
    assert up.returncode == 0, up.stderr
    try:
        join = ("up", "--join", f"{address}:{port}", "--num-cpus", 1, "--token-file")
        wrong = Path(second.environment["TMPDIR"]) / "wrong"
        wrong.touch(mode=0o600)
        wrong.write_text("0" * 64)
        assert second.run(*join, wrong).returncode != 0
        joined = second.run(*join, machine.folder / "token")
        assert joined.returncode == 0, joined.stderr
        nodes = json.loads(machine.run("status", "--json").stdout)["nodes"]
        assert sorted(node["head"] for node in nodes) == [False, True]
        assert "joined" in second.run("status").stdout
    finally:
        left = second.run("down")
    assert left.returncode == 0, left.stderr
    assert (machine.folder / "token").exists()
