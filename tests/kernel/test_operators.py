"""The connections of operators are found, by port or by the server's cgroup."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest

from fos1d import abi
from fos1d.kernel.inet_diag import LISTEN, InetSocket, tcp_sockets
from fos1d.kernel.operators import flow_keys, operator_connections, ssh_cgroups
from fos1d.kernel.workloads.units import UNIT_LABEL
from fos1d.model.workload import Provider, Workload
from tests import lab

pytestmark = pytest.mark.kernel

SERVER = """
import socket
s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(s.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(s.accept())
"""


@pytest.fixture
def port(namespace: lab.Namespace, cgroup: Path) -> Iterator[int]:
    """A server in a cgroup of its own, for both families."""
    enter = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
    words = ["sh", "-c", enter, str(cgroup), sys.executable, "-c", SERVER]
    server = namespace.popen(*words, stdout=subprocess.PIPE)
    assert server.stdout
    yield int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("by", ["cgroup", "port"])
def test_connections_are_found(port: int, cgroup: Path, address: str, by: str) -> None:
    known = ({cgroup.stat().st_ino}, set()) if by == "cgroup" else (set(), {port})
    assert operator_connections(*known) == []
    with socket.create_connection((address, port)) as client:
        local_port = client.getsockname()[1]
        (found,) = operator_connections(*known)
        here = ip_address(address)
        number = cgroup.stat().st_ino
        assert replace(found, cookie=0) == InetSocket(here, port, here, local_port, cgroup=number)
        assert operator_connections({1}, {port + 1}) == []


def test_listeners_are_seen_with_their_cgroup(port: int, cgroup: Path) -> None:
    seen = {found.local_port: found.cgroup for found in tcp_sockets(LISTEN)}
    assert seen == {port: cgroup.stat().st_ino}


def test_many_connections_come_in_many_messages(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(500)]
    found = operator_connections(set(), {port})
    assert {one.peer_port for one in found} == {c.getsockname()[1] for c in clients}
    for client in clients:
        client.close()


def test_keys_are_those_of_the_flow_tables() -> None:
    low, high = ip_address("10.0.0.1"), ip_address("192.0.2.7")
    (key,), none = flow_keys([InetSocket(high, 22, low, 50000)])
    (row,) = np.frombuffer(key, np.dtype(abi.FLOW4_KEY))
    assert not none
    assert (row["address_a"], row["address_b"]) == (int(low), int(high))
    assert (row["port_a"], row["port_b"], row["protocol"]) == (50000, 22, 6)
    six = ip_address("2001:db8::1")
    none, (key,) = flow_keys([InetSocket(six, 22, six, 50000)])
    (row,) = np.frombuffer(key, np.dtype(abi.FLOW6_KEY))
    assert not none and (row["port_a"], row["port_b"]) == (22, 50000)


def test_only_systemds_ssh_servers_count() -> None:
    def unit(number: int, name: str, trusted: bool = True) -> Workload:
        labels = {UNIT_LABEL: name}
        known = labels if trusted else {}
        return Workload(name, name, number, Provider.SYSTEMD, "", labels, known)

    found = [unit(1, "ssh.service"), unit(2, "sshd@1-2.service"), unit(3, "ssh.service", False)]
    assert ssh_cgroups([*found, unit(4, "sshguard.service")]) == {1, 2}
