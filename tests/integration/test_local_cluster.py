"""`cluster/local`: up, status and down, on ports and in folders of the test's own."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.local_machines import Machine, is_running
from support.sockets import free_block, free_ports, is_loopback, listening_addresses

pytestmark = pytest.mark.cluster

COMMANDS = ("up", "down", "status", "submit", "logs", "stop", "list")


@pytest.fixture
def machine(short_folder, request):
    machine = Machine(short_folder / str(abs(hash(request.node.name)) % 10**4))
    yield machine
    machine.run("down")


def http_status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_up_makes_a_private_cluster_that_down_ends_alone(machine):
    first, dashboard_port = free_block(10), free_ports(1)[0]
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    options = ("--port", first, "--dashboard-port", dashboard_port, "--num-cpus", 2)
    up = machine.run("up", *options)
    assert up.returncode == 0, up.stderr
    assert machine.token.stat().st_mode & 0o777 == 0o600
    pids = [pid for pid, _ in machine.record()["processes"]]
    assert len(pids) > 3
    assert all(map(is_running, pids))

    listening = listening_addresses(pids)
    assert all(is_loopback(address) for address, _ in listening)
    assert {port for _, port in listening} == {*range(first, first + 10), dashboard_port}
    assert http_status(dashboard + "/api/jobs/") == 401

    again = machine.run("up", *options)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "already up" in again.stderr

    report = machine.status()
    assert [(n["ip"], n["state"], n["cpus"]) for n in report["nodes"]] == [
        ("127.0.0.1", "ALIVE", 2)
    ]
    assert report["resources"]["CPU"]["total"] == 2
    assert report["jobs"] == []
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


def test_down_leaves_a_process_that_took_over_a_recorded_pid(machine):
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        machine.folder.mkdir(parents=True)
        record = {
            "address": "127.0.0.1:1",
            "dashboard": "http://127.0.0.1:1",
            "token_file": str(machine.token),
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


@pytest.mark.parametrize(
    "command",
    [("down",), ("status",), ("list",), ("logs", "job"), ("stop", "job"), ("submit", "--", "ls")],
)
def test_nothing_up_is_a_users_mistake(machine, command):
    run = machine.run(*command)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: no cluster is up on this machine")
    assert run.stderr.count("\n") == 1


def test_mistakes_are_named_before_anything_starts(machine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first, (closed,) = free_block(10), free_ports(1)
        folder = Path(machine.environment["TMPDIR"])
        token, open_token, empty = (folder / name for name in ("token", "open", "empty"))
        for path, text, mode in ((token, "t", 0o600), (open_token, "t", 0o644), (empty, "", 0o600)):
            path.write_text(text)
            path.chmod(mode)
        somewhere = f"192.0.2.254:{closed}"
        binary = folder / "binary"
        binary.write_bytes(b"\xff\xfe")
        binary.chmod(0o600)
        known = ("--token-file", token)
        nowhere = ("--address", f"http://127.0.0.1:{closed}", "--token-file", token)
        up = ("up", "--dashboard-port", closed)
        with socket.create_server(("127.0.0.1", first + 9)):
            tell_mistakes(machine, {(*up, "--port", first): f"{first + 9} "})
        tell_mistakes(
            machine,
            {
                ("up", "--port", first, "--dashboard-port", port): "--dashboard-port",
                ("up", "--port", first, "--dashboard-port", first + 3): "--dashboard-port",
                (*up, "--port", 9995): "outside 10002 to 19999",
                (*up, "--port", 65530): "--port 65530",
                (*up, "--num-cpus", "many"): "--num-cpus: 'many'",
                (*up, "--address", "203.0.113.1"): "--address 203.0.113.1",
                ("up", "--join", "nowhere.invalid:6379", *known): "cannot reach the head",
                ("up", "--join", "[fd00::5]:6379", *known): "IPv4",
                ("up", "--join", somewhere): "--token-file",
                ("up", "--join", somewhere, "--token-file", folder / "none"): "no such file",
                ("up", "--join", somewhere, "--token-file", open_token): "chmod 600",
                ("up", "--join", somewhere, "--token-file", empty): "empty",
                ("up", "--join", somewhere, "--token-file", binary): "no token",
                ("up", "--join", f"127.0.0.1:{port}", "--token-file", token): "loopback",
                ("up", "--join", "head", "--token-file", token): "HEAD_IP:PORT",
                ("submit", *nowhere, "--", "ls"): "cannot reach",
                ("list", "--address", f"127.0.0.1:{port}", *known): "http://127.0.0.1:8265",
                ("submit", "--env", "1=2", "--", "ls"): "--env",
                ("submit", "--env", "NO_SUCH_NAME", "--", "ls"): "--env NO_SUCH_NAME",
                ("submit",): "COMMAND",
                ("submit", "--address", "http://127.0.0.1:1", "--", "ls"): "--token-file",
                ("stop",): "JOB",
            }
            | {(command, "--no-such-flag", "x"): "cluster/local/" for command in COMMANDS},
        )
    assert not (machine.folder / "cluster.json").exists()


def tell_mistakes(machine, mistakes):
    for arguments, words in mistakes.items():
        run = machine.run(*arguments)
        assert (run.returncode, run.stderr.count("\n")) == (2, 1), (arguments, run.stderr)
        assert words in run.stderr
