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


def listening_addresses(pids):
    """Return the local addresses at which these processes listen, without ended processes."""
    addresses = set()
    for pid in pids:
        try:
            sockets = psutil.Process(pid).net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        addresses |= {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    return addresses


def is_loopback(address):
    host = ipaddress.ip_address(address)
    return (getattr(host, "ipv4_mapped", None) or host).is_loopback
