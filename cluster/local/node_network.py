"""Choose the address, the network interface and the ports of the Ray processes of a machine."""

import ipaddress
import socket
from dataclasses import dataclass

from ray_processes import load_psutil

from reidray.errors import UserError

LOOPBACK = "127.0.0.1"

WORKER_PORTS = range(10002, 20000)
"""Ports that Ray gives to workers and to the drivers of jobs."""

NODE_OPTIONS = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)
"""Options of `ray start` for the ports of every machine."""

HEAD_OPTIONS = ("port", "ray-client-server-port")
"""Options of `ray start` for the ports of the head alone."""

HEAD_VARIABLES = ("DASHBOARD_METRIC_PORT", "AUTOSCALER_METRIC_PORT")
"""Variables of the environment for the ports of the head that have no option."""


@dataclass(frozen=True)
class NodePorts:
    """Number the ports of a machine in one block, so that one rule of a firewall covers them.

    Attributes:
        first: the first port of the block. On the head, other machines join it there.
    """

    first: int

    @property
    def block(self) -> range:
        """Return all ports of the block."""
        names = len(HEAD_OPTIONS) + len(NODE_OPTIONS) + len(HEAD_VARIABLES)
        return range(self.first, self.first + names)

    @property
    def head_options(self) -> dict[str, int]:
        """Return the ports by option of `ray start` on the head."""
        return dict(zip((*HEAD_OPTIONS, *NODE_OPTIONS), self.block, strict=False))

    @property
    def node_options(self) -> dict[str, int]:
        """Return the ports by option of `ray start` on a machine that joins a head."""
        return {name: self.head_options[name] for name in NODE_OPTIONS}

    @property
    def head_variables(self) -> dict[str, str]:
        """Return the ports of the head that Ray reads from the environment."""
        last = self.block[-len(HEAD_VARIABLES) :]
        return {name: str(port) for name, port in zip(HEAD_VARIABLES, last, strict=True)}

    def check(self) -> None:
        """Check that the ports of the block are such that Ray can use them.

        Raises:
            UserError: a port is reserved, or does not exist.
        """
        if self.first < 1024 or self.block[-1] > 65535 or set(self.block) & set(WORKER_PORTS):
            raise UserError(
                f"--port {self.first}: expected the first of {len(self.block)} ports from 1024 to "
                f"65535, outside {WORKER_PORTS[0]} to {WORKER_PORTS[-1]}, where Ray's workers are"
            )

    def check_dashboard(self, port: int) -> None:
        """Check that the dashboard can listen on a port.

        Raises:
            UserError: the port does not exist, is one of the block or one of the workers', or is
                not free.
        """
        if not 0 < port < 65536:
            raise UserError(f"--dashboard-port {port}: expected a port from 1 to 65535")
        if port in self.block or port in WORKER_PORTS:
            raise UserError(
                f"--dashboard-port {port}: other processes of Ray use {self.first} to "
                f"{self.block[-1]} and {WORKER_PORTS[0]} to {WORKER_PORTS[-1]}; choose another"
            )
        check_free(LOOPBACK, range(port, port + 1), "--dashboard-port")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_interface(address: str) -> str:
    """Return the name of the network interface that has an address.

    Raises:
        UserError: no interface of this machine has the address, or it is one of IPv6.
    """
    if ":" in address:
        raise UserError(f"--address {address}: expected an IPv4 address, as in 10.0.0.5")
    addresses: dict[str, list[str]] = {
        name: [each.address for each in found if each.family == socket.AF_INET]
        for name, found in load_psutil().net_if_addrs().items()
    }
    for name, own in addresses.items():
        if address in own:
            return name
    if is_loopback(address):  # the interface has all of 127.0.0.0/8, and lists one of them
        return next(name for name, own in addresses.items() if any(map(is_loopback, own)))
    listed = ", ".join(f"{each} ({name})" for name, own in addresses.items() for each in own)
    raise UserError(f"--address {address}: this machine has no such address, but {listed}")


def check_free(host: str, ports: range, flag: str) -> None:
    """Check that ports are free.

    Args:
        host: address on which the processes listen.
        ports: the ports.
        flag: flag that names the first one, for the message.

    Raises:
        UserError: a process cannot listen on one of the ports.
    """
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError) as error:
                raise UserError(
                    f"cannot listen on port {port} ({error}): choose another with {flag}"
                ) from None
