"""Watches: what comes, changes and goes, from any version on, to many clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fos1d.cli.client import TABLE, Client, Refused
from fos1d.report.api import ApiServer
from fos1d.report.connections import Limits
from fos1d.report.server import Options
from tests.fake_desk import COUNTERS, EDGE, FILTER, NOW, WAN, FakeDesk, accepted_of

BASE = "/apis/networking.fos1.io/v1alpha1"
PROGRAMS = f"{BASE}/namespaces/default/ebpfprograms"
MAPS = f"{BASE}/ebpfmaps"


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def path(desk: FakeDesk, tmp_path: Path) -> Iterator[Path]:
    options = Options(limits=Limits(watches=3))
    server = ApiServer(tmp_path / "api.sock", desk, clock=lambda: NOW, options=options)
    server.start()
    yield tmp_path / "api.sock"
    server.stop()


def follow(path: Path, what: str, timeout_s: float = 5.0, **query: str) -> Iterator[Any]:
    """Watch, on a connection of its own."""
    return Client(path).watch(what, query, timeout_s=timeout_s)


def brief(events: Iterator[Any], count: int) -> list[tuple[str, str]]:
    """Return what the next events say, shortly."""
    return [(e["type"], e["object"]["metadata"]["name"]) for e in islice(events, count)]


def version_of(path: Path, what: str = PROGRAMS) -> str:
    """Return the version of a list."""
    version: str = Client(path).get(what)["metadata"]["resourceVersion"]
    return version


def test_it_begins_with_what_there_is(path: Path, desk: FakeDesk) -> None:
    events = follow(path, PROGRAMS)
    begun = [("ADDED", "edge-filter"), ("ADDED", "typo"), ("ADDED", "wan-filter")]
    assert brief(events, 3) == begun
    desk.set_status(replace(desk.now.resources[WAN], remarks=("news",)))
    event = next(events)
    assert (event["type"], event["object"]["status"]["remarks"]) == ("MODIFIED", ["news"])
    desk.remove(FILTER)
    assert brief(events, 1) == [("DELETED", "edge-filter")]


def test_it_goes_on_from_a_version(path: Path, desk: FakeDesk) -> None:
    version = version_of(path)
    new = accepted_of(EDGE.replace("edge-filter", "fresh"), "policy/new.yaml")
    fresh = next(identity for identity in new if identity.name == "fresh")
    desk.remove(WAN)
    desk.set_status(replace(desk.now.resources[FILTER], id=fresh, accepted=new[fresh]))
    events = follow(path, PROGRAMS, resourceVersion=version)
    assert brief(events, 2) == [("ADDED", "fresh"), ("DELETED", "wan-filter")]


def test_nothing_comes_where_nothing_changed(path: Path, desk: FakeDesk) -> None:
    events = follow(path, PROGRAMS, 0.4, resourceVersion=version_of(path))
    desk.set_status(replace(desk.now.resources[COUNTERS], remarks=("of another kind",)))
    assert list(events) == []


def test_several_changes_come_as_one(path: Path, desk: FakeDesk) -> None:
    version = version_of(path)
    for number in range(5):
        desk.set_status(replace(desk.now.resources[WAN], remarks=(f"{number}",)))
    events = list(follow(path, PROGRAMS, 0.5, resourceVersion=version))
    assert [event["object"]["status"]["remarks"] for event in events] == [["4"]]


def test_one_that_is_selected_no_more_is_gone(path: Path, desk: FakeDesk) -> None:
    events = follow(path, PROGRAMS, labelSelector="app=edge")
    assert brief(events, 2) == [("ADDED", "edge-filter"), ("ADDED", "wan-filter")]
    other = accepted_of(EDGE.replace("labels: {app: edge}", "labels: {app: core}"), "policy/e.yaml")
    desk.set_status(replace(desk.now.resources[WAN], accepted=other[WAN]))
    assert brief(events, 1) == [("DELETED", "wan-filter")]


def test_one_resource(path: Path, desk: FakeDesk) -> None:
    events = follow(path, PROGRAMS, fieldSelector="metadata.name=wan-filter")
    assert brief(events, 1) == [("ADDED", "wan-filter")]
    desk.set_status(replace(desk.now.resources[FILTER], remarks=("another",)))
    desk.set_status(replace(desk.now.resources[WAN], remarks=("this one",)))
    assert brief(events, 1) == [("MODIFIED", "wan-filter")]


def test_as_tables(path: Path, desk: FakeDesk) -> None:
    events = Client(path).watch(MAPS, {}, TABLE, 5.0)
    first = next(events)
    assert (first["type"], first["object"]["kind"]) == ("ADDED", "Table")
    assert first["object"]["rows"][0]["cells"][2] == "5/1024"


def test_it_asks_the_kernel_only_where_it_must(path: Path, desk: FakeDesk) -> None:
    list(follow(path, PROGRAMS, 0.2))
    assert desk.asked == []


@pytest.mark.parametrize("version", ["1", "999", "1767135600000000000", "5000000000000000001"])
def test_a_version_too_old_or_of_another_daemon(path: Path, version: str) -> None:
    version_of(path)
    with pytest.raises(Refused, match="is too old; list again") as caught:
        next(follow(path, PROGRAMS, resourceVersion=version))
    assert caught.value.status == 410


def test_a_version_that_is_none(path: Path) -> None:
    with pytest.raises(Refused, match="is not one of ours") as caught:
        next(follow(path, PROGRAMS, resourceVersion="x"))
    assert caught.value.status == 400


def test_old_versions_are_forgotten(path: Path, desk: FakeDesk) -> None:
    version = version_of(path)
    for number in range(10):
        desk.set_status(replace(desk.now.resources[WAN], remarks=(f"{number}",)))
        version_of(path)
    with pytest.raises(Refused, match="too old"):
        next(follow(path, PROGRAMS, resourceVersion=version))


def test_it_ends_in_time(path: Path) -> None:
    began = time.monotonic()
    assert len(list(follow(path, PROGRAMS, 0.3))) == 3
    assert 0.25 < time.monotonic() - began < 2


def test_changes_come_at_once(path: Path, desk: FakeDesk) -> None:
    events = follow(path, PROGRAMS, 10.0, resourceVersion=version_of(path))
    began = []

    def change() -> None:
        began.append(time.monotonic())
        desk.set_status(replace(desk.now.resources[WAN], remarks=("now",)))

    threading.Timer(0.3, change).start()
    assert brief(events, 1) == [("MODIFIED", "wan-filter")]
    assert time.monotonic() - began[0] < 0.25


def test_many_watch_the_same(path: Path, desk: FakeDesk) -> None:
    watches = [follow(path, PROGRAMS, resourceVersion=version_of(path)) for _ in range(3)]
    threading.Timer(0.5, desk.remove, [WAN]).start()
    assert [brief(watch, 1) for watch in watches] == [[("DELETED", "wan-filter")]] * 3


def test_too_many_watches_are_refused(path: Path) -> None:
    watches = [follow(path, PROGRAMS) for _ in range(3)]
    for watch in watches:
        next(watch)
    with pytest.raises(Refused, match="too many watches"):
        next(follow(path, PROGRAMS))


def test_one_who_left_makes_room(path: Path, desk: FakeDesk) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(f"GET {PROGRAMS}?watch=1 HTTP/1.1\r\n\r\n".encode())
            client.recv(100)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert brief(follow(path, PROGRAMS), 1) == [("ADDED", "edge-filter")]
            break
        except Refused:
            time.sleep(0.1)
    else:
        pytest.fail("the watches of clients that left are still counted")


def test_nobody_waits_where_nobody_watches(path: Path, desk: FakeDesk) -> None:
    list(follow(path, PROGRAMS, 0.2))
    time.sleep(0.8)
    waits: list[float] = []
    real = desk.wait_for_change

    def counted(version: int, timeout_s: float) -> Any:
        waits.append(timeout_s)
        return real(version, timeout_s)

    desk.wait_for_change = counted  # type: ignore[method-assign]
    time.sleep(0.6)
    assert waits == []
