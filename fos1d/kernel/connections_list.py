"""The TCP and UDP connections of our network namespace with their cgroups, by sock_diag(7)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fos1d.errors import KernelError

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_CGROUP_ID = 21
BUFFER_BYTES = 1 << 18

HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBBI48s")
MESSAGE_BYTES = 72
COOKIE_OFFSET = 44

# enum in net/tcp_states.h: all but TIME_WAIT, CLOSE, LISTEN and what no socket stands for yet.
TCP_STATES = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))
UDP_STATES = 1 << 1
DUMPS = (
    (socket.AF_INET, socket.IPPROTO_TCP, TCP_STATES),
    (socket.AF_INET6, socket.IPPROTO_TCP, TCP_STATES),
    (socket.AF_INET, socket.IPPROTO_UDP, UDP_STATES),
    (socket.AF_INET6, socket.IPPROTO_UDP, UDP_STATES),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected socket, by its cookie, and the cgroup that it belongs to."""

    cookie: int
    cgroup: int


def connections() -> list[Connection]:
    """List the connections; sockets that the kernel tells no cgroup of are left out.

    Raises KernelError.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as link:
        link.bind((0, 0))
        return [found for dump in DUMPS for found in _dumped(link, *dump)]


def _dumped(link: socket.socket, family: int, protocol: int, states: int) -> Iterator[Connection]:
    body = REQUEST.pack(family, protocol, 0, 0, states, b"")
    size = HEADER.size + len(body)
    link.send(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + body)
    for kind, payload in _messages(link):
        if kind == SOCK_DIAG_BY_FAMILY and (found := _connection(payload)):
            yield found


def _messages(link: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of one dump."""
    while True:
        data = link.recv(BUFFER_BYTES)
        offset = 0
        while offset + HEADER.size <= len(data):
            size, kind, _, _, _ = HEADER.unpack_from(data, offset)
            payload = data[offset + HEADER.size : offset + size]
            if kind == NLMSG_DONE or (kind == NLMSG_ERROR and _is_nothing(payload)):
                return
            yield kind, payload
            offset += (size + 3) & ~3


def _is_nothing(payload: bytes) -> bool:
    """Whether an error means that this kernel has no such sockets.

    Raises KernelError for others.
    """
    number = -struct.unpack_from("=i", payload)[0]
    if number in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        return True
    raise KernelError(f"list connections by sock_diag: {errno.errorcode.get(number)}", number)


def _connection(payload: bytes) -> Connection | None:
    (cookie,) = struct.unpack_from("=Q", payload, COOKIE_OFFSET)
    offset = MESSAGE_BYTES
    while offset + 4 <= len(payload):
        size, kind = struct.unpack_from("=HH", payload, offset)
        if kind == INET_DIAG_CGROUP_ID:
            return Connection(cookie, struct.unpack_from("=Q", payload, offset + 4)[0])
        offset += max((size + 3) & ~3, 4)
    return None
