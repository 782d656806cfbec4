"""The API's socket: who may use it, for what, and which daemon it belongs to."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fos1d.cli.client import Client, Refused, Unreachable
from fos1d.errors import SettingsError
from fos1d.report import listen as listening
from fos1d.report.api import ApiServer
from fos1d.report.peers import Peer, may_change
from fos1d.report.server import Options
from tests.fake_desk import NOW, FakeDesk

BASE = "/apis/networking.fos1.io/v1alpha1"
PROGRAM = f"{BASE}/namespaces/default/ebpfprograms/edge-filter"


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def server(desk: FakeDesk, path: Path) -> Iterator[ApiServer]:
    yield from running(ApiServer(path, desk, clock=lambda: NOW))


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


# Who may what


@pytest.mark.parametrize("order", ["reconcile", "suspend", "resume", "confirm", "plan", "rollback"])
def test_others_may_only_read(desk: FakeDesk, path: Path, order: str) -> None:
    options = Options(may_change=lambda peer: False)
    for _ in running(ApiServer(path, desk, options=options)):
        with pytest.raises(Refused) as caught:
            Client(path).post(f"/fos1/v1/{order}")
        assert caught.value.status == 403
        assert str(caught.value) == (
            f"this is for root and members of group fos1, not for user {os.geteuid()}"
        )
        assert Client(path).get(PROGRAM)
    assert [what for what, _ in desk.asked] == ["details"]


def test_the_refusal_comes_before_the_body(desk: FakeDesk, path: Path) -> None:
    options = Options(may_change=lambda peer: False)
    for _ in running(ApiServer(path, desk, options=options)):
        with pytest.raises(Refused, match="this is for root"):
            Client(path).post("/fos1/v1/plan", body={"files": {"a.yaml": "x" * (8 << 20)}})


def test_the_peer_is_who_the_kernel_says(desk: FakeDesk, path: Path) -> None:
    peers: list[Peer] = []

    def note(peer: Peer) -> bool:
        peers.append(peer)
        return True

    for _ in running(ApiServer(path, desk, options=Options(may_change=note))):
        Client(path).post("/fos1/v1/reconcile")
    assert peers == [Peer(os.getpid(), os.geteuid(), os.getegid(), frozenset(os.getgroups()))]


def test_who_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fos1d.report.peers.group_id", lambda: 4242)
    monkeypatch.setattr("os.getgrouplist", lambda name, gid: [gid, *MEMBERS.get(name, [])])
    assert may_change(Peer(1, 0, 0))
    assert may_change(Peer(1, os.geteuid(), 1))
    assert may_change(Peer(1, 60_123, 4242)), "a user without an entry, running with the group"
    assert may_change(Peer(1, 60_123, 100, frozenset({4242})))
    assert not may_change(Peer(1, 60_123, 100, frozenset({27})))
    monkeypatch.setattr("pwd.getpwuid", lambda uid: MEMBER if uid == 1001 else STRANGER)
    assert may_change(Peer(1, 1001, 100))
    assert not may_change(Peer(1, 1002, 100))
    monkeypatch.setattr("fos1d.report.peers.group_id", lambda: None)
    assert not may_change(Peer(1, 1001, 100))


class MEMBER:
    """A user in the group."""

    pw_name, pw_gid = "ada", 100


class STRANGER:
    """A user who is not."""

    pw_name, pw_gid = "bob", 100


MEMBERS = {"ada": [4242], "bob": [27]}


# The socket


def test_the_socket_is_for_owner_and_group(server: ApiServer, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_dead_daemons_socket_is_replaced(desk: FakeDesk, path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.listen()
    dead.close()
    for _ in running(ApiServer(path, desk)):
        assert Client(path).get("/version")
    assert not path.exists()


def test_a_living_daemons_socket_is_not_stolen(server: ApiServer, path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        ApiServer(path, FakeDesk()).start()
    assert str(caught.value) == (
        f"{path}: another fos1d (process {os.getpid()}) answers there; stop it, or give this one"
        " another paths.runtime"
    )
    assert Client(path).get("/version")


def test_a_living_daemon_that_is_busy_is_alive(path: Path) -> None:
    busy = socket.socket(socket.AF_UNIX)
    busy.bind(str(path))
    busy.listen(0)
    with connected(path), pytest.raises(SettingsError, match="another fos1d"):
        ApiServer(path, FakeDesk()).start()
    busy.close()


def test_of_two_that_start_at_once_one_wins(path: Path) -> None:
    servers = [ApiServer(path, FakeDesk()) for _ in range(8)]

    def start(server: ApiServer) -> bool:
        try:
            server.start()
        except SettingsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, servers)) == 1
    assert Client(path).get("/version")
    for server in servers:
        server.stop()


def test_a_successors_socket_is_left_alone(desk: FakeDesk, path: Path) -> None:
    first = ApiServer(path, desk)
    first.start()
    path.unlink()
    for _ in running(ApiServer(path, desk)):
        first.stop()
        assert Client(path).get("/version")


def test_a_path_that_cannot_be_a_socket(desk: FakeDesk, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"set paths\.runtime to a shorter folder"):
        ApiServer(tmp_path / ("x" * 120), desk).start()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot listen there: "):
        ApiServer(tmp_path / "file" / "api.sock", desk).start()


def test_a_group_that_cannot_be_given_is_said(
    desk: FakeDesk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(listening, "group_id", lambda: 4242)
    monkeypatch.setattr("os.chown", refuse)
    server = ApiServer(path, desk)
    assert "put SupplementaryGroups=fos1 into the unit" in server.start()
    server.stop()


def test_what_is_gone_is_unreachable(desk: FakeDesk, path: Path) -> None:
    server = ApiServer(path, desk)
    server.start()
    client = Client(path)
    client.get("/version")
    server.stop()
    with pytest.raises(Unreachable, match="is it running"):
        client.get("/version")
    server.stop()
