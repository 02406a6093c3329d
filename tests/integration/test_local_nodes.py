"""A cluster of three machines by the commands of `cluster/README.md`, behind its firewall."""

import json
import re
import shlex
import shutil
import sys
import time

import pytest
from support.local_machines import connected_machines, wait_for
from support.paths import ROOT

from reidray.demo import generate_demo_set

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

TRAINING = shlex.split(
    "--recipe demo --epochs 12 --batch.people 6 --network.height 32 --network.width 16 "
    "--network.feature-size 32 --num-workers 2 --use-gpu no --max-failures 2"
)
JOIN = ("up", "--join", "10.77.0.1:6379", "--num-cpus", 1, "--token-file")
CALL = """
import grpc
for port, method in (
    (6379, "NodeInfoGcsService/GetAllNodeInfo"),
    (6380, "RayletDriver/ClusterInfo"),
    (6381, "NodeManagerService/GetNodeStats"),
    (6382, "ObjectManagerService/Pull"),
):
    channel = grpc.insecure_channel(f"10.77.0.1:{port}")
    try:
        channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=10)
    except grpc.RpcError as error:
        print(error.code().name)
"""
README = (ROOT / "cluster" / "README.md").read_text()


@pytest.fixture(scope="module")
def machines(short_folder):
    """Three machines of a cluster, and a fourth that does not belong to it."""
    with connected_machines(short_folder, 4) as machines:
        if shutil.which("nft"):
            for machine in machines[:3]:
                machine.run_program("nft", "-f", write_firewall(short_folder / "ray.nft"))
        yield machines


def write_firewall(path):
    """Write the rules of the README for the machines of the test."""
    (rules,) = re.findall(r"  ```\n(  table inet ray .*?)  ```\n", README, re.DOTALL)
    path.write_text(re.sub(r"10\.0\.0\.(\d)", lambda found: f"10.77.0.{int(found[1]) - 4}", rules))
    return path


@pytest.fixture(scope="module")
def head(machines):
    head = machines[0]
    up = head.run("up", "--address", "10.77.0.1", "--num-cpus", 1)
    assert up.returncode == 0, up.stderr
    return head


def listed_ports(role):
    """Return the ports of a kind of machine that the README lists."""
    rows = re.findall(r"^ *\| (\d+)(?: to (\d+))? \| (head|every machine) \|", README, re.M)
    return {
        port
        for first, last, where in rows
        if where in (role, "every machine")
        for port in range(int(first), int(last or first) + 1)
    }


def listening(machine):
    """Return the (address, port) pairs at which something on a machine listens."""
    lines = machine.run_program("ss", "-ltnH").stdout.splitlines()
    places = [line.split()[3].rpartition(":") for line in lines]
    return {(address, int(port)) for address, _, port in places}


@pytest.mark.usefixtures("head")
def test_a_machine_with_a_wrong_token_is_refused_at_once(machines, short_folder):
    wrong = short_folder / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("0" * 64)
    start = time.monotonic()
    told = machines[1].run(*JOIN, wrong)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
    assert "refuses this token" in told.stderr
    assert time.monotonic() - start < 10


def test_a_training_survives_a_machine_and_its_model_scores(machines, head, short_folder):
    for machine in machines[1:3]:
        joined = machine.run(*JOIN, head.token)
        assert joined.returncode == 0, joined.stderr
        assert "joined" in machine.run("status").stdout
    assert sorted(each["head"] for each in head.status()["nodes"]) == [False, False, True]

    data, run = short_folder / "data", short_folder / "run"
    generate_demo_set(data, people=12, images=240)
    submit = ("submit", "--", "python", "jobs/train_reid.py", "--data", data / "train")
    job = head.start(*submit, "--output", run, *TRAINING)
    metrics = run / "metrics.jsonl"
    wait_for(lambda: job.poll() is not None or metrics.is_file(), timeout=200)
    busy = [machine for machine in machines[1:3] if trains(machine)]
    places = [listening(machine) for machine in machines[:3]]
    busy[0].kill_raylet()
    said, messages = job.communicate(timeout=400)
    assert job.returncode == 0, said[-3000:] + messages[-3000:]
    assert "state-dump" not in said
    assert len(metrics.read_text().splitlines()) == 12
    for found, role in zip(places, ("head", "joined", "joined"), strict=True):
        assert {port for _, port in found} <= listed_ports(role)
    by_pytorch = [
        (address, f"10.77.0.{number}")
        for number, found in enumerate(places, 1)
        for address, port in found
        if port >= 32768
    ]
    assert len(by_pytorch) >= 3  # of Gloo in both workers, and of PyTorch's store in one
    assert all(address == own for address, own in by_pytorch), by_pytorch
    assert {node["state"] for node in head.status()["nodes"]} == {"ALIVE", "DEAD"}

    scored = head.run(
        *("submit", "--", "python", "jobs/score_nightly.py", "--model", run / "model"),
        *("--queries", data / "queries", "--gallery", data / "test"),
        *("--output", short_folder / "scores", "--store", short_folder / "store"),
        timeout=200,
    )
    assert scored.returncode == 0, scored.stdout[-3000:] + scored.stderr
    assert json.loads(scored.stdout.splitlines()[-1])["embedded"] > 0
    assert (short_folder / "scores" / "reid_test.txt").is_file()


def trains(machine):
    return any("RayTrainWorker" in words for _, words in machine.processes())


def test_without_the_token_only_metrics_answer(machines, head):
    inside, outside = machines[1], machines[3]
    ports = {port for address, port in listening(head) if not address.startswith("127.")}
    assert ports >= set(range(6379, 6389))
    for port in sorted(ports):
        url = f"http://10.77.0.1:{port}/metrics"
        answer = inside.run_program("curl", "-s", "-w", "%{http_code}", url).stdout
        assert ("# TYPE" in answer) == (port in (6386, 6387, 6388)), port
        if port in (6384, 6385):
            assert answer.endswith("401")
        if shutil.which("nft"):
            assert outside.run_program("curl", "-s", "-m", 1, url).returncode == 28, port  # silence
    refused = inside.run_program(sys.executable, "-c", CALL)
    assert refused.stdout.split() == ["UNAUTHENTICATED"] * 4, refused.stderr
