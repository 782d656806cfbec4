"""Sockets of hosts in the household's lab, all held by the test itself."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab import Namespace
from tests.netns.sockets import family_of

Endpoint = tuple[str, int]
PATIENCE_S = 1.5
# How long to wait for what should not come.
SILENCE_S = 0.25
MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Udp:
    """A UDP socket."""

    socket: socket.socket

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound."""
        return endpoint_of(self.socket.getsockname())

    def send(self, dest: Endpoint, data: bytes = b"?") -> None:
        """Send a datagram."""
        self.socket.sendto(data, dest)

    def receive(self, patience_s: float = PATIENCE_S) -> tuple[bytes, Endpoint] | None:
        """Return the next datagram and who sent it, None if none comes in time."""
        self.socket.settimeout(patience_s)
        try:
            data, peer = self.socket.recvfrom(MOST_BYTES)
        except TimeoutError:
            return None
        return data, endpoint_of(peer)

    def hears(self, other: Udp, dest: Endpoint, patience_s: float = PATIENCE_S) -> Endpoint | None:
        """Have another socket send to `dest`; return as whom it is heard here, None if not."""
        mark = struct.pack("!Q", time.monotonic_ns())
        other.send(dest, mark)
        until = time.monotonic() + patience_s
        while (left := until - time.monotonic()) > 0:
            got = self.receive(left)
            if got is not None and got[0] == mark:
                return got[1]
        return None

    def is_deaf_to(self, other: Udp, dest: Endpoint) -> bool:
        """Whether nothing is heard of what another socket sends to `dest`."""
        return self.hears(other, dest, SILENCE_S) is None


def endpoint_of(name: Any) -> Endpoint:
    """Return address and port of what the socket module calls an address."""
    return (name[0], name[1])


@contextmanager
def udp(host: Namespace, address: str, port: int = 0) -> Iterator[Udp]:
    """Open a UDP socket in a host."""
    with host.entered():
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
    with made:
        made.bind((address, port))
        yield Udp(made)


@contextmanager
def listener(host: Namespace, address: str, port: int = 0) -> Iterator[socket.socket]:
    """Open a TCP server in a host, whose port may be dialed from too, as who punches holes does."""
    with host.entered():
        made = socket.socket(family_of(address), socket.SOCK_STREAM)
    with made:
        _share(made)
        made.bind((address, port))
        made.listen(4096)
        made.settimeout(PATIENCE_S)
        yield made


def _share(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


@contextmanager
def dialed(
    host: Namespace, address: str, port: int, dest: Endpoint, patience_s: float = PATIENCE_S
) -> Iterator[socket.socket]:
    """Connect from a host's port, which may be used by other connections too."""
    with host.entered():
        made = socket.socket(family_of(address), socket.SOCK_STREAM)
    with made:
        _share(made)
        made.bind((address, port))
        made.settimeout(patience_s)
        made.connect(dest)
        yield made


def tcp_between(
    client: Namespace, source: Endpoint, server: socket.socket, dest: Endpoint
) -> tuple[str, int]:
    """Connect, exchange a word each way, close; return as whom the server sees the client."""
    with dialed(client, *source, dest) as made:
        taken, peer = server.accept()
        with taken:
            taken.settimeout(PATIENCE_S)
            made.sendall(b"ping")
            assert taken.recv(64) == b"ping"
            taken.sendall(b"pong")
            assert made.recv(64) == b"pong"
    return endpoint_of(peer)


def fate_of_dial(
    host: Namespace, source: Endpoint, dest: Endpoint, patience_s: float = PATIENCE_S
) -> str:
    """Return the name of the error of a connection attempt, "" for none."""
    try:
        with dialed(host, *source, dest, patience_s):
            return ""
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def pings(host: Namespace, dest: str, *options: str, count: int = 1) -> bool:
    """Whether all pings of a host are answered."""
    words = ("ping", "-n", "-q", "-c", str(count), "-i", "0.02", "-W", "1", *options, dest)
    return ", 0% packet loss" in host.run(*words, check=False)
