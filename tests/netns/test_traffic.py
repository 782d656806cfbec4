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


@pytest.mark.parametrize(("way", "dest"), WAYS)
def test_a_long_conversation_is_not_limited(strict: Site, way: str, dest: str) -> None:
    with connected(strict, way, dest) as (client, server):
        for sender, receiver in ((client, server), (server, client)) * 100:
            sender.sendall(b"x" * 100)
            assert receiver.recv(100) == b"x" * 100
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"bye")
        assert client.recv(3) == b"bye"


@pytest.mark.parametrize(("way", "dest"), WAYS[2:])
def test_answers_from_outside_pass_whole_and_in_fragments(
    strict: Site, way: str, dest: str
) -> None:
    inside, outside = ends(strict, way)
    with (
        made(outside, dest, socket.SOCK_DGRAM) as server,
        made(inside, dest, socket.SOCK_DGRAM) as c,
    ):
        server.bind((dest, PORT))
        c.connect((dest, PORT))
        for size in (100, 5000) * 20:
            c.send(b"?")
            _, peer = server.recvfrom(10)
            server.sendto(b"x" * size, peer)
            assert len(c.recv(9000)) == size


@pytest.mark.parametrize(("way", "dest"), WAYS[2:])
def test_an_error_about_our_own_datagram_comes_back(strict: Site, way: str, dest: str) -> None:
    inside, _ = ends(strict, way)
    with made(inside, dest, socket.SOCK_DGRAM) as client:
        client.connect((dest, PORT + 1))
        client.send(b"?")
        with pytest.raises(OSError, match="refused") as caught:
            client.recv(1)
        assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(("way", "dest"), WAYS[:2])
def test_unasked_datagrams_are_limited(strict: Site, way: str, dest: str) -> None:
    outside, inside = ends(strict, way)
    with (
        made(inside, dest, socket.SOCK_DGRAM) as server,
        made(outside, dest, socket.SOCK_DGRAM) as c,
    ):
        server.bind((dest, PORT))
        c.connect((dest, PORT))
        began = time.monotonic()
        for _ in range(200):
            c.send(b"!")
        time.sleep(0.2)
        arrived = 0
        while select.select([server], [], [], 0)[0]:
            server.recv(10)
            arrived += 1
        assert 5 <= arrived <= 10 + 10 * (time.monotonic() - began) + 1


@pytest.mark.parametrize(("way", "dest"), WAYS[:2])
def test_a_connection_that_is_older_than_the_filter_needs_the_grace(
    site: Site, way: str, dest: str
) -> None:
    """With a grace it goes on, without one it does not; a new one always comes about."""
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
        assert server.recv(1) == b"y", "it was adopted meanwhile"
