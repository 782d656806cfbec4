"""The operator's own connections: TCP connections to the ssh servers of this machine.

They are told to the data path by the exact keys of their flows, so that no policy can lock the
person out who is at work. The kernel lists them (sock_diag(7)); no process is looked into.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from fos1d.errors import KernelError
from fos1d.kernel import libbpf
from fos1d.kernel.workloads.units import UNIT_LABEL
from fos1d.model.workload import Workload

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
ESTABLISHED, LISTEN = 1, 10
INET_DIAG_CGROUP_ID = 21

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_SOCKET = struct.Struct("!HH16s16s")
_SOCKET_BYTES, _MESSAGE_BYTES = 48, 72
_ANSWER_BYTES = 1 << 16
_SSH = re.compile(r"(ssh|sshd|openssh-server|dropbear)(@.*)?\.(service|socket)")


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP socket of this machine. `cgroup_id` is that of the socket, 0 if not told."""

    local: IPv4Address | IPv6Address
    local_port: int
    peer: IPv4Address | IPv6Address
    peer_port: int
    cgroup_id: int = 0


def ssh_cgroups(workloads: Iterable[Workload]) -> frozenset[int]:
    """Return the cgroups of systemd's ssh servers."""
    return frozenset(
        workload.cgroup_id
        for workload in workloads
        if _SSH.fullmatch(workload.trusted_labels.get(UNIT_LABEL, ""))
    )


def operator_connections(cgroups: Collection[int], ports: Collection[int]) -> list[Connection]:
    """Return the established connections to ssh servers.

    Those listen in one of the cgroups, wherever, or on one of the ports. Raises KernelError.
    """
    listening = {found.local_port for found in connections(LISTEN) if found.cgroup_id in cgroups}
    return [
        found for port in sorted(listening | set(ports)) for found in connections(ESTABLISHED, port)
    ]


def flow_keys(found: Iterable[Connection]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the keys of the connections' flows, IPv4 and IPv6, as the flow tables have them."""
    keys: dict[int, set[bytes]] = {4: set(), 6: set()}
    for one in found:
        ends = sorted(((one.local, one.local_port), (one.peer, one.peer_port)), key=_end_order)
        (a, port_a), (b, port_b) = ends
        ports = struct.pack("!HHB3x", port_a, port_b, socket.IPPROTO_TCP)
        keys[one.local.version].add(a.packed + b.packed + ports)
    return frozenset(keys[4]), frozenset(keys[6])


def _end_order(end: tuple[IPv4Address | IPv6Address, int]) -> tuple[int, int]:
    address, port = end
    return int(address), port


def connections(state: int, port: int = 0) -> Iterator[Connection]:
    """Yield the TCP sockets in a state, maybe only those of a local port.

    Raises KernelError.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(family, state, port):
            yield _connection(message)


def _dump(family: int, state: int, port: int) -> Iterator[bytes]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << state)
    request += _SOCKET.pack(port, 0, b"", b"").ljust(_SOCKET_BYTES, b"\0")
    size = _HEADER.size + len(request)
    header = _HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(2)
            netlink.send(header + request)
            yield from _answers(netlink)
    except OSError as error:
        what = f"list TCP connections: {error.strerror or error}"
        raise KernelError(what, error.errno or errno.EIO) from error


def _answers(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        data = netlink.recv(_ANSWER_BYTES)
        offset = 0
        while offset < len(data):
            size, kind, *_ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + size]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", body)
                raise libbpf.error_of(-number, "list TCP connections")
            yield body
            offset += -(-size // 4) * 4


def _connection(message: bytes) -> Connection:
    family = message[0]
    local_port, peer_port, local, peer = _SOCKET.unpack_from(message, 4)
    cgroup = dict(_attributes(message)).get(INET_DIAG_CGROUP_ID, bytes(8))
    return Connection(
        _address(family, local),
        local_port,
        _address(family, peer),
        peer_port,
        struct.unpack("=Q", cgroup)[0],
    )


def _address(family: int, data: bytes) -> IPv4Address | IPv6Address:
    """Return an address as it is on the wire: a socket for both families shows IPv4 mapped."""
    if family == socket.AF_INET:
        return IPv4Address(data[:4])
    address = IPv6Address(data)
    return address.ipv4_mapped or address


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    offset = _MESSAGE_BYTES
    while offset + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, offset)
        yield kind & 0x3FFF, message[offset + 4 : offset + size]
        offset += max(4, -(-size // 4) * 4)
