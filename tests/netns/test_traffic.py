"""Real sockets through a strict filter: what belongs to something passes, in both families, in
both modes; what belongs to nothing does not."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.applied import program
from tests.lab import Namespace
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.running import until

pytestmark = pytest.mark.netns

PORT = 7000
SLOW = "rateLimiting: {enabled: true, packetsPerSecond: 10, burst: 10}"
STRICT = f"{{stateful: true, statefulGraceSeconds: 0, {SLOW}}}"
WAYS = [
    ("in", f"{LAN4}.2"),
    ("in", f"{LAN6}:2"),
    ("out", f"{WAN4}.2"),
    ("out", f"{WAN6}:2"),
]


@pytest.fixture(params=["native", "generic"])
def strict(site: Site, request: pytest.FixtureRequest) -> Site:
    """A site whose outside interface is strict from the start."""
    site.router.write("edge.yaml", program("edge", "wan0", STRICT, mode=request.param))
    site.router.start()
    until(lambda: site.router.ready("ebpf", "edge"), 10)
    return site


def made(namespace: Namespace, dest: str, kind: socket.SocketKind) -> socket.socket:
    """Make a socket in a namespace, of the family of `dest`."""
    with namespace.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in dest else socket.AF_INET, kind)
    sock.settimeout(3)
    return sock


def ends(site: Site, way: str) -> tuple[Namespace, Namespace]:
    """Return who connects and who listens."""
    return (site.wan, site.lan) if way == "in" else (site.lan, site.wan)


@contextmanager
def connected(site: Site, way: str, dest: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect through the router."""
    client_host, server_host = ends(site, way)
    with (
        made(server_host, dest, socket.SOCK_STREAM) as listener,
        made(client_host, dest, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((dest, PORT))
        listener.listen()
        client.connect((dest, PORT))
        server, _ = listener.accept()
        with server:
            server.settimeout(3)
            yield client, server


def test_a_long_conversation_is_not_limited(strict: Site) -> None:
    for way, dest in WAYS:
        converse(strict, way, dest)


def converse(site: Site, way: str, dest: str) -> None:
    with connected(site, way, dest) as (client, server):
        for sender, receiver in ((client, server), (server, client)) * 100:
            sender.sendall(b"x" * 100)
            assert receiver.recv(100) == b"x" * 100
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"bye")
        assert client.recv(3) == b"bye"


def test_answers_from_outside_pass_whole_and_in_fragments(strict: Site) -> None:
    for way, dest in WAYS[2:]:
        inside, outside = ends(strict, way)
        with datagrams(inside, outside, dest) as (client, server):
            for size in (100, 5000) * 20:
                client.send(b"?")
                _, peer = server.recvfrom(10)
                server.sendto(b"x" * size, peer)
                assert len(client.recv(9000)) == size


def test_an_error_about_our_own_datagram_comes_back(strict: Site) -> None:
    for way, dest in WAYS[2:]:
        inside, _ = ends(strict, way)
        with made(inside, dest, socket.SOCK_DGRAM) as client:
            client.connect((dest, PORT + 1))
            client.send(b"?")
            with pytest.raises(OSError, match="refused") as caught:
                client.recv(1)
            assert caught.value.errno == errno.ECONNREFUSED


def test_unasked_datagrams_are_limited(strict: Site) -> None:
    for way, dest in WAYS[:2]:
        outside, inside = ends(strict, way)
        with datagrams(outside, inside, dest) as (client, server):
            client.send(b"?")
            assert server.recv(10), "the neighbours have found each other"
            began = time.monotonic()
            for _ in range(200):
                client.send(b"!")
            time.sleep(0.2)
            assert 3 <= waiting(server) <= 10 + 10 * (time.monotonic() - began) + 1


@contextmanager
def datagrams(
    client_host: Namespace, server_host: Namespace, dest: str
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make a pair of UDP sockets."""
    with (
        made(client_host, dest, socket.SOCK_DGRAM) as client,
        made(server_host, dest, socket.SOCK_DGRAM) as server,
    ):
        server.bind((dest, PORT))
        client.connect((dest, PORT))
        yield client, server


def waiting(server: socket.socket) -> int:
    """Take the datagrams that have arrived; return how many."""
    count = 0
    while select.select([server], [], [], 0)[0]:
        server.recv(10)
        count += 1
    return count


@pytest.mark.parametrize(("way", "dest"), WAYS[:2])
def test_a_connection_older_than_the_filter_goes_on(site: Site, way: str, dest: str) -> None:
    """It is adopted in the grace, and known when that is over."""
    with connected(site, way, dest) as (client, server):
        site.router.write("edge.yaml", program("edge", "wan0", "{stateful: true}"))
        site.router.start()
        until(lambda: site.router.ready("ebpf", "edge"), 10)
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        site.router.write("edge.yaml", program("edge", "wan0", STRICT))
        until(lambda: site.router.json("get", "ebpf/edge")["metadata"]["generation"] == 2, 5)
        until(lambda: site.router.ready("ebpf", "edge"), 5)
        client.sendall(b"y")
        assert server.recv(1) == b"y"
