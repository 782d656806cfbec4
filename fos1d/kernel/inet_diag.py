"""TCP and UDP sockets of our network namespace, with their cgroups, by sock_diag(7)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product

from fos1d.errors import KernelError

Address = IPv4Address | IPv6Address

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_CGROUP_ID, ATTRIBUTE_TYPE = 21, 0x3FFF
PATIENCE_S = 2
BUFFER_BYTES = 1 << 18

# enum in net/tcp_states.h; a connected UDP socket is established.
ESTABLISHED, LISTEN = 1, 10
# All but TIME_WAIT, CLOSE, LISTEN and what no socket stands for yet.
CONNECTED = (ESTABLISHED, 2, 4, 5, 8, 9, 11)

FAMILIES = (socket.AF_INET, socket.AF_INET6)
# An old kernel, or one without IPv6, has no such sockets.
ABSENT = (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)

HEADER = struct.Struct("=IHHII")
# struct inet_diag_req_v2 begins with what is asked, then the socket that is looked for.
REQUEST = struct.Struct("=BBBxI")
ENDS = struct.Struct("!HH16s16s")
ENDS_OFFSET, ENDS_BYTES = 4, 48
COOKIE_OFFSET, MESSAGE_BYTES = 44, 72


@dataclass(frozen=True, slots=True)
class InetSocket:
    """A socket. `cgroup` is the id of the one that it belongs to, 0 if that is not told."""

    local: Address
    local_port: int
    peer: Address
    peer_port: int
    cookie: int = 0
    cgroup: int = 0


def tcp_sockets(state: int, port: int = 0) -> Iterator[InetSocket]:
    """Yield the TCP sockets in a state, maybe only those of a local port.

    Raises KernelError.
    """
    for family in FAMILIES:
        yield from _dump(family, socket.IPPROTO_TCP, 1 << state, port)


def connected_sockets() -> Iterator[InetSocket]:
    """Yield the sockets that stand for a connection, TCP and UDP.

    Raises KernelError.
    """
    states = {
        socket.IPPROTO_TCP: sum(1 << state for state in CONNECTED),
        socket.IPPROTO_UDP: 1 << ESTABLISHED,
    }
    for family, (protocol, bits) in product(FAMILIES, states.items()):
        yield from _dump(family, protocol, bits)


def _dump(family: int, protocol: int, states: int, port: int = 0) -> Iterator[InetSocket]:
    body = REQUEST.pack(family, protocol, 0, states)
    body += ENDS.pack(port, 0, b"", b"").ljust(ENDS_BYTES, b"\0")
    size = HEADER.size + len(body)
    request = HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as link:
            link.settimeout(PATIENCE_S)
            link.send(request)
            yield from (_socket(message) for message in _messages(link))
    except OSError as error:
        raise _refused(error.errno or errno.EIO) from error


def _messages(link: socket.socket) -> Iterator[bytes]:
    """Yield the messages of one dump."""
    while True:
        data = link.recv(BUFFER_BYTES)
        offset = 0
        while offset + HEADER.size <= len(data):
            size, kind, _, _, _ = HEADER.unpack_from(data, offset)
            message = data[offset + HEADER.size : offset + size]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", message)[0]
                if number in ABSENT:
                    return
                raise _refused(number)
            yield message
            offset += _aligned(size)


def _refused(number: int) -> KernelError:
    return KernelError(f"list sockets by sock_diag: {errno.errorcode.get(number)}", number)


def _socket(message: bytes) -> InetSocket:
    family = message[0]
    local_port, peer_port, local, peer = ENDS.unpack_from(message, ENDS_OFFSET)
    (cookie,) = struct.unpack_from("=Q", message, COOKIE_OFFSET)
    cgroup = dict(_attributes(message)).get(INET_DIAG_CGROUP_ID, bytes(8))
    return InetSocket(
        _address(family, local),
        local_port,
        _address(family, peer),
        peer_port,
        cookie,
        int.from_bytes(cgroup[:8], "little"),
    )


def _address(family: int, data: bytes) -> Address:
    """Return an address as it is on the wire: a socket for both families shows IPv4 mapped."""
    if family == socket.AF_INET:
        return IPv4Address(data[:4])
    address = IPv6Address(data)
    return address.ipv4_mapped or address


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    offset = MESSAGE_BYTES
    while offset + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, offset)
        yield kind & ATTRIBUTE_TYPE, message[offset + 4 : offset + size]
        offset += max(4, _aligned(size))


def _aligned(size: int) -> int:
    return (size + 3) & ~3
