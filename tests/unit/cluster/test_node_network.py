"""The ports and the network interface of a machine that `cluster/local/up` starts."""

import re
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from reidray.errors import UserError

CLUSTER = ROOT / "cluster"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """Let the test import the modules beside the scripts."""
    sys.path.insert(0, str(CLUSTER / "local"))
    yield
    sys.path.remove(str(CLUSTER / "local"))


def test_the_readme_lists_the_ports_of_each_kind_of_machine():
    from node_network import WORKER_PORTS, NodePorts

    rows = re.findall(
        r"^ *\| (\d+)(?: to (\d+))? \| (head|every machine) \|",
        (CLUSTER / "README.md").read_text(),
        re.MULTILINE,
    )
    listed = {
        port: where
        for first, last, where in rows
        for port in range(int(first), int(last or first) + 1)
    }
    ports = NodePorts(6379)
    everywhere = ports.node_options.values()
    assert {port: where for port, where in listed.items() if port < 8000} == {
        port: "every machine" if port in everywhere else "head" for port in ports.block
    }
    assert listed[8265] == "head"
    assert set(WORKER_PORTS) <= listed.keys()


def test_an_interface_is_found_by_any_address_of_it():
    from node_network import find_interface

    assert find_interface("127.0.0.1") == find_interface("127.8.0.1")
    with pytest.raises(UserError, match=r"203\.0\.113\.1: .* no such address, but 127\.0\.0\.1"):
        find_interface("203.0.113.1")
    with pytest.raises(UserError, match="::1: expected an IPv4 address"):
        find_interface("::1")


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_does_not_exist_is_no_port_of_the_dashboard(port):
    from node_network import NodePorts

    with pytest.raises(UserError, match=f"--dashboard-port {port}: expected a port from 1"):
        NodePorts(6379).check_dashboard(port)


def test_interfaces_that_the_user_names_win(monkeypatch):
    from node_network import NodePorts
    from ray_node import RayNode

    node = RayNode(
        host="10.0.0.5",
        interface="eth1",
        ports=NodePorts(6379),
        head=None,
        dashboard_port=8265,
        num_cpus=None,
        num_gpus=None,
        token_file=Path("token"),
    )
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    environment = node.environment()
    assert environment["GLOO_SOCKET_IFNAME"] == "eth1"
    assert environment["NCCL_SOCKET_IFNAME"] == "ib0"
    assert environment["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:8265"
