"""Find free ports, and the addresses at which processes listen."""

import ipaddress
import socket

import psutil


def free_ports(count):
    # All held at once, so that they differ.
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def free_block(count):
    """Return the first of some free consecutive ports, which the system gives to no connection."""
    for first in range(20_000, 32_000, count):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


def listening_addresses(pids):
    """Return (address, port) where these processes listen, without ended processes."""
    addresses = set()
    for pid in pids:
        try:
            sockets = psutil.Process(pid).net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        addresses |= {tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN}
    return addresses


def is_loopback(address):
    host = ipaddress.ip_address(address)
    return (getattr(host, "ipv4_mapped", None) or host).is_loopback
