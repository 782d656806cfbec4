"""The API's server: what clients may do to it, and what they may not."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fos1d.cli.client import Client, Refused
from fos1d.model.identity import ResourceId
from fos1d.report.api import ApiServer
from fos1d.report.connections import Limits
from fos1d.report.desk import Details
from fos1d.report.http import MOST_HEAD_BYTES
from fos1d.report.server import Options
from fos1d.report.status import World
from tests.fake_desk import NOW, FakeDesk, router

BASE = "/apis/networking.fos1.io/v1alpha1"
PROGRAM = f"{BASE}/namespaces/default/ebpfprograms/edge-filter"
QUICK = Limits(connections=8, watches=2, orders=1, idle_s=0.3, body_s=0.3, write_s=0.5)


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def server(desk: FakeDesk, path: Path, complaints: list[str]) -> Iterator[ApiServer]:
    options = Options(complain=complaints.append, limits=QUICK)
    yield from running(ApiServer(path, desk, clock=lambda: NOW, options=options))


def running(server: ApiServer) -> Iterator[ApiServer]:
    """Run a server for the time of a test."""
    assert server.start() == ""
    yield server
    server.stop()


def connected(path: Path) -> socket.socket:
    """Return a connection of ours."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(str(path))
    return client


def said(client: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    parts = []
    try:
        while data := client.recv(65536):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def asked(path: Path, data: bytes) -> bytes:
    """Return all that the server answers to some bytes, up to its closing."""
    with connected(path) as client:
        client.sendall(data)
        return said(client)


# Answers


def test_one_connection_serves_many_requests(server: ApiServer, path: Path) -> None:
    with connected(path) as client:
        stream = client.makefile("rb")
        for _ in range(3):
            client.sendall(f"GET {PROGRAM} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert json.loads(stream.read(length))["kind"] == "EBPFProgram"


def test_pipelined_requests_are_answered_in_order(server: ApiServer, path: Path) -> None:
    last = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    answers = asked(path, b"GET /version HTTP/1.1\r\n\r\n" * 3 + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.endswith(b"ok\n")


def test_http_1_0_is_closed(server: ApiServer, path: Path) -> None:
    assert asked(path, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")


def test_other_methods_change_nothing(server: ApiServer, path: Path, desk: FakeDesk) -> None:
    for method in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        answer = asked(path, f"{method} {PROGRAM} HTTP/1.1\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"405 Method" in asked(path, f"POST {PROGRAM} HTTP/1.0\r\n\r\n".encode())
    assert desk.asked == []


def test_a_fault_of_ours_is_told_and_ends_nothing(
    server: ApiServer, path: Path, desk: FakeDesk, complaints: list[str]
) -> None:
    def broken(identity: ResourceId) -> Details:
        raise ZeroDivisionError("oh")

    desk.details = broken  # type: ignore[method-assign]
    client = Client(path)
    with pytest.raises(Refused, match="ZeroDivisionError: oh"):
        client.get(PROGRAM)
    assert complaints == [f"GET {PROGRAM}: ZeroDivisionError('oh')"]
    assert client.get("/version")["major"] == "0"


# Bad clients


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET nowhere HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MOST_HEAD_BYTES, 431),
        (b"\r\n\r\n", 400),
        (b"GET /%ff%00/../.. HTTP/1.0\r\n\r\n", 404),
        (b"GET " + BASE.encode() + b"/ebpfmaps?labelSelector=((( HTTP/1.0\r\n\r\n", 400),
        (b"GET " + BASE.encode() + b"/ebpfmaps?watch=1&timeoutSeconds=x HTTP/1.0\r\n\r\n", 400),
        (b"GET //[ HTTP/1.0\r\n\r\n", 400),
        (b"GET /?" + b"&".join(b"a%d=1" % n for n in range(99)) + b" HTTP/1.0\r\n\r\n", 400),
    ],
)
def test_garbage_is_refused(server: ApiServer, path: Path, data: bytes, code: int) -> None:
    answer = asked(path, data)
    assert answer.startswith(f"HTTP/1.1 {code} ".encode())
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"Connection: close" in head
    assert json.loads(body)["code"] == code


def test_slow_and_silent_clients_stop_nobody(server: ApiServer, path: Path) -> None:
    idle = [connected(path) for _ in range(QUICK.connections)]
    for client in idle[:4]:
        client.sendall(b"GET / HT")
    began = time.monotonic()
    for _ in range(QUICK.connections):
        with connected(path) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert said(client).endswith(b"ok\n")
    assert time.monotonic() - began < QUICK.idle_s * 3
    for client in idle:
        assert said(client) == b""
        client.close()


def test_a_body_that_does_not_come_is_given_up(server: ApiServer, path: Path) -> None:
    head = b"POST /fos1/v1/suspend HTTP/1.1\r\nContent-Length: 10\r\n\r\n123"
    assert asked(path, head) == b""
    assert Client(path).get("/version")


def test_one_that_does_not_read_is_dropped(server: ApiServer, path: Path, desk: FakeDesk) -> None:
    big = replace(desk.now, error="x" * (4 << 20))
    desk.publish(big)
    with connected(path) as lazy:
        lazy.sendall(b"GET /fos1/v1/status HTTP/1.1\r\n\r\n")
        time.sleep(QUICK.write_s + 0.3)
        desk.publish(router())
        assert len(said(lazy)) < 4 << 20
    assert Client(path).get("/version")


def test_unread_answers_do_not_pile_up(desk: FakeDesk, path: Path) -> None:
    limits = Limits(unread_bytes=8 << 20, write_s=30)
    server = ApiServer(path, desk, options=Options(limits=limits))
    desk.publish(replace(desk.now, error="x" * (3 << 20)))
    for _ in running(server):
        lazy = [connected(path) for _ in range(5)]
        for client in lazy:
            client.sendall(b"GET /fos1/v1/status HTTP/1.1\r\n\r\n")
            time.sleep(0.05)
        assert len(Client(path).get("/fos1/v1/status")["passes"]["error"]) == 3 << 20
        read = sum(len(said_within(client)) > 3 << 20 for client in lazy)
        assert read <= 2
        for client in lazy:
            client.close()


def said_within(client: socket.socket) -> bytes:
    """Return what comes until the server closes or pauses."""
    client.settimeout(0.3)
    try:
        parts = []
        while data := client.recv(1 << 20):
            parts.append(data)
    except OSError:
        pass
    return b"".join(parts)


def test_a_slow_daemon_stops_no_reader(server: ApiServer, path: Path, desk: FakeDesk) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(wait: bool, timeout_s: float) -> World:
        entered.set()
        go.wait(5)
        return replace(desk.now, passes=desk.now.passes + 1)

    desk.reconcile = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Client(path).post, "/fos1/v1/reconcile", {"wait": "1"})
        assert entered.wait(5)
        assert Client(path).get(PROGRAM)["kind"] == "EBPFProgram"
        with pytest.raises(Refused, match="too many requests wait for the daemon already"):
            Client(path).post("/fos1/v1/reconcile")
        go.set()
        assert waiting.result()["passes"]["count"] == 1503


def test_many_clients_at_once(desk: FakeDesk, path: Path) -> None:
    def work(number: int) -> int:
        client = Client(path)
        answers = [client.get(PROGRAM)["metadata"]["name"] for _ in range(10)]
        client.close()
        return len(answers)

    for _ in running(ApiServer(path, desk)):
        with ThreadPoolExecutor(32) as pool:
            assert sum(pool.map(work, range(48))) == 48 * 10


def test_many_requests_leak_nothing(desk: FakeDesk, path: Path) -> None:
    def used() -> tuple[int, int, int]:
        gc.collect()
        files = len(list(Path("/proc/self/fd").iterdir()))
        return files, threading.active_count(), len(gc.get_objects())

    for _ in running(ApiServer(path, desk)):
        hammer(path, 50)
        before = used()
        hammer(path, 250)
        desk.asked.clear()
        after = used()
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 500


def hammer(path: Path, times: int) -> None:
    """Make many requests of all sorts on many connections."""
    client = Client(path)
    for number in range(times):
        client.get(PROGRAM)
        if number % 10 == 0:
            client.close()
            connected(path).close()
            asked(path, b"GARBAGE\r\n\r\n")
            with connected(path) as gone:
                gone.sendall(f"GET {BASE}/ebpfprograms?watch=1 HTTP/1.1\r\n\r\n".encode()[:-1])
    client.close()
    time.sleep(0.5)
