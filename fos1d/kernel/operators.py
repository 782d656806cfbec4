"""The operator's own connections: TCP connections to the ssh servers of this machine.

They are told to the data path by the exact keys of their flows, so that no policy can lock the
person out who is at work. The kernel lists them; no process is looked into.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Collection, Iterable

from fos1d.kernel.inet_diag import ESTABLISHED, LISTEN, Address, InetSocket, tcp_sockets
from fos1d.kernel.workloads.units import UNIT_LABEL
from fos1d.model.workload import Workload

_SSH = re.compile(r"(ssh|sshd|openssh-server|dropbear)(@.*)?\.(service|socket)")


def ssh_cgroups(workloads: Iterable[Workload]) -> frozenset[int]:
    """Return the cgroups of systemd's ssh servers."""
    return frozenset(
        workload.cgroup_id
        for workload in workloads
        if _SSH.fullmatch(workload.trusted_labels.get(UNIT_LABEL, ""))
    )


def operator_connections(cgroups: Collection[int], ports: Collection[int]) -> list[InetSocket]:
    """Return the established connections to ssh servers.

    Those listen in one of the cgroups, wherever, or on one of the ports. Raises KernelError.
    """
    listening = {found.local_port for found in tcp_sockets(LISTEN) if found.cgroup in cgroups}
    ports = sorted(listening | set(ports))
    return [found for port in ports for found in tcp_sockets(ESTABLISHED, port)]


def flow_keys(found: Iterable[InetSocket]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the keys of the connections' flows, IPv4 and IPv6, as the flow tables have them."""
    keys: dict[int, set[bytes]] = {4: set(), 6: set()}
    for one in found:
        ends = sorted(((one.local, one.local_port), (one.peer, one.peer_port)), key=_end_order)
        (a, port_a), (b, port_b) = ends
        ports = struct.pack("!HHB3x", port_a, port_b, socket.IPPROTO_TCP)
        keys[one.local.version].add(a.packed + b.packed + ports)
    return frozenset(keys[4]), frozenset(keys[6])


def _end_order(end: tuple[Address, int]) -> tuple[int, int]:
    address, port = end
    return int(address), port
