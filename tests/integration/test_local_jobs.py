"""The jobs of a cluster that `cluster/local/up` starts: submit, logs, list and stop."""

import signal
import sys
import time

import psutil
import pytest
from support.local_machines import LOCAL, Machine, finish, wait_for
from support.sockets import free_block, free_ports

pytestmark = pytest.mark.cluster

SECRET = "a-secret-of-the-test"
FILES = {
    "job.py": """
import sys
import reidray
print("code from", reidray.WHERE)
print("a line on stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
""",
    "wait.py": """
import os, sys, time
print(os.environ.get("FROM_SHELL"), os.environ.get("GIVEN"), "waits", flush=True)
time.sleep(600)
""",
    "worker.py": """
import os
import ray

@ray.remote
def look():
    from ray.util.state import list_nodes
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return len(list_nodes()), [os.environ[name] for name in names]

ray.init(log_to_driver=False, logging_level="ERROR")
print("sees", *ray.get(look.remote()))
""",
    "reidray/__init__.py": "WHERE = 'the upload'",
    ".gitignore": "ignored",
    "ignored": "",
    "runs/large": "",
}
CONNECT = """
import sys
from reidray.cli.job import run_job
def connect():
    from reidray.ray_runtime import ray_session
    with ray_session(*sys.argv[1:]):
        return {}
run_job(connect)
"""
HEAR = """
import os, time
from reidray.ray_runtime import ray_session
with ray_session():
    from ray._private.utils import publish_error_to_driver
    from ray._raylet import GcsClient
    time.sleep(1)
    client = GcsClient(address=os.environ["RAY_ADDRESS"])
    raylet = "Raylet is terminated. Termination is unexpected. Last 20 lines: [state-dump]"
    for message in (raylet, "another message"):
        publish_error_to_driver("raylet_died", message, client)
    time.sleep(2)
"""
SET_VERSION = """
import json, os, sys
from ray._raylet import GcsClient
client = GcsClient(address=os.environ["RAY_ADDRESS"])
versions = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
text = json.dumps(versions | {"ray_version": sys.argv[1]}).encode()
client.internal_kv_put(b"CLUSTER_METADATA", text, True, b"cluster")
"""


@pytest.fixture(scope="module")
def machine(short_folder):
    machine = Machine(short_folder / "a")
    up = machine.run(
        "up", "--port", free_block(10), "--dashboard-port", free_ports(1)[0], "--num-cpus", 2
    )
    assert up.returncode == 0, up.stderr
    yield machine
    machine.run("down")


@pytest.fixture(scope="module")
def submit(short_folder):
    """The command `submit` of a small project."""
    project = short_folder / "project"
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return ("submit", "--working-dir", project)


@pytest.fixture
def wrong_token(short_folder):
    token = short_folder / "wrong"
    token.touch(mode=0o600)
    token.write_text("0" * 64)
    return token


def test_submit_shows_the_log_and_exits_as_the_job_does(machine, submit):
    codes = (0, 2, 1)
    runs = [machine.start(*submit, "--", "sh", "-c", f"ls; python job.py {c}") for c in codes]
    for run, code in zip(map(finish, runs), codes, strict=True):
        assert run.returncode == code, run.stderr
        lines = run.stdout.splitlines()
        assert "code from the upload" in lines
        assert "a line on stderr" in lines
        assert " INFO " not in run.stderr.replace("\t", " ")
        assert "job.py" in lines
        assert "ignored" not in lines
        assert "runs" not in lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_submit_stops_the_job(machine, submit, number):
    command = machine.start(*submit, "--", sys.executable, "wait.py")
    job = command.stderr.readline().split()[-1]
    wait_for(lambda: "waits" in machine.run("logs", job).stdout)
    command.send_signal(number)
    ended = finish(command, timeout=30)
    assert ended.returncode == 128 + number
    assert ended.stderr.startswith(f"stopped job {job}")
    assert state_of(machine, job) == "STOPPED"


def state_of(machine, job):
    (state,) = [each["status"] for each in machine.status()["jobs"] if each["id"] == job]
    return state


def test_a_job_without_wait_has_its_variables_is_listed_and_is_stopped(
    machine, submit, monkeypatch
):
    monkeypatch.setitem(machine.environment, "FROM_SHELL", SECRET)
    variables = ("--env", "FROM_SHELL", "--env", "GIVEN=a=b")
    quick = machine.run(*submit, "--no-wait", "--", "true").stdout.strip()
    command = machine.run(*submit, *variables, "--no-wait", "--", sys.executable, "wait.py")
    assert (command.returncode, command.stderr) == (0, "")
    job = command.stdout.strip()
    log = wait_for(lambda: "waits" in (log := machine.run("logs", job).stdout) and log)
    assert f"{SECRET} a=b waits" in log
    assert not [
        each.info["cmdline"]
        for each in psutil.process_iter(["cmdline"])
        if SECRET in " ".join(each.info["cmdline"] or [])
    ]
    assert machine.run("logs", "--follow", quick).returncode == 0

    header, *rows = machine.run("list").stdout.splitlines()
    assert header.split() == ["job", "status", "exit", "submitted", "duration", "command"]
    listed = {row.split()[0]: row for row in rows}
    assert list(listed)[-2:] == [quick, job]
    assert listed[quick].split()[1:3] == ["SUCCEEDED", "0"]
    assert listed[quick].endswith("  true")
    assert time.strftime("%Y-%m-%d %H:") in listed[job]
    shown = machine.run("status").stdout.splitlines()
    assert shown[-len(rows) - 1 : -1] == [header, *rows[:-1]]  # the last job grows older
    submitted = [each["submitted"] for each in machine.status()["jobs"]]
    assert submitted == sorted(submitted)

    unread = machine.run_program("sh", "-c", f"{sys.executable} {LOCAL}/list | true")
    assert (unread.returncode, unread.stderr) == (0, "")

    assert machine.run("stop", job).stdout == f"stopped job {job}\n"
    assert state_of(machine, job) == "STOPPED"
    for command, words in (("stop", job), "has ended already"), (("logs", "nothing"), "no job"):
        told = machine.run(*command)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert words in told.stderr


def test_a_wrong_token_is_told_in_one_line_at_once(machine, submit, wrong_token):
    environment = {"RAY_AUTH_TOKEN_PATH": str(wrong_token)}
    commands = [
        machine.start(*submit, "--token-file", wrong_token, "--", "true"),
        machine.start("list", "--token-file", wrong_token),
        start_driver(machine, CONNECT, environment),
        start_driver(machine, CONNECT, {"RAY_AUTH_MODE": "disabled"}),
        start_driver(machine, CONNECT, environment, "auto"),
    ]
    for command in commands:
        assert "refuses the token" in only_error(finish(command, timeout=20))


def test_an_address_other_than_that_of_the_dashboard_is_told(machine):
    host, _, port = machine.record()["address"].rpartition(":")
    for other in (int(port), int(port) + 7):  # the head, and metrics over HTTP
        url = f"http://{host}:{other}"
        told = machine.run("list", "--address", url, "--token-file", machine.token)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
        assert f"cannot reach a cluster at {url} (what answers there" in told.stderr


def only_error(ended):
    """Return the one line of a mistake, beside lines of progress where the machine is slow."""
    assert ended.returncode == 2, ended.stderr
    *others, error = ended.stderr.splitlines()
    assert not [line for line in others if not line.startswith(("loading", "joining"))]
    return error


def start_driver(machine, code, changes=None, *arguments):
    """Start a program in a shell that has sourced the file that `up` wrote."""
    source = f". {machine.folder}/env && export HOME=/nowhere"
    exports = "".join(f" && export {name}={value}" for name, value in (changes or {}).items())
    return machine.start_program(
        "sh", "-c", f'{source}{exports} && exec "$@"', "sh", sys.executable, "-c", code, *arguments
    )


def test_another_version_of_ray_is_named_with_this_one(machine):
    assert finish(start_driver(machine, SET_VERSION, None, "2.50.1")).returncode == 0
    try:
        drivers = [start_driver(machine, CONNECT, None, *given) for given in ((), ("auto",))]
        for driver in drivers:
            told = only_error(finish(driver))
            assert "runs Ray 2.50.1 with Python 3." in told
            assert "this process Ray 2.60.0" in told
    finally:
        finish(start_driver(machine, SET_VERSION, None, "2.60.0"))
    assert finish(start_driver(machine, CONNECT)).returncode == 0


def test_the_counters_of_a_dead_raylet_do_not_reach_the_log_of_a_job(machine):
    heard = finish(start_driver(machine, HEAR))
    assert heard.returncode == 0, heard.stderr
    assert "another message" in heard.stdout
    assert "state-dump" not in heard.stdout + heard.stderr


def test_a_worker_finds_its_own_dashboard_and_interface_beside_another_ray(
    machine, submit, short_folder
):
    other = Machine(short_folder / "b")
    up = other.run("up", "--port", free_block(10), "--dashboard-port", free_ports(1)[0])
    assert up.returncode == 0, up.stderr
    try:
        run = machine.run(*submit, "--", "python", "worker.py")
    finally:
        other.run("down")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "sees 1 ['lo', '=lo']" in run.stdout
