"""fos1ctl nat, and the part of the API that it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from fos1d.cli.client import Client, Refused
from fos1d.model.translated import Choice, Ends
from fos1d.report.api import ApiServer
from fos1d.report.desk import Details, NatQuery, Translated
from fos1d.report.nat_views import nat_fields
from tests.ctl_router import Router, running_router
from tests.fake_desk import NOW, FakeDesk

LISTED = """\
Sessions: 1
  PROTO   INSIDE          OUTSIDE            FAR                STATE         ENDS    POLICY
  tcp     10.0.0.7:5001   203.0.113.1:5001   198.51.100.9:443   established   7300s   default/home
Bindings: 3
  PROTO   INSIDE          OUTSIDE            ENDS    POLICY
  tcp     10.0.0.7:5001   203.0.113.1:5001   7300s   default/home
  udp     (the router)    203.0.113.1:5001   40s     default/home
"""


@pytest.fixture
def live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Router]:
    with running_router(tmp_path, capsys, monkeypatch) as found:
        yield found


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def client(desk: FakeDesk, tmp_path: Path) -> Iterator[Client]:
    server = ApiServer(tmp_path / "api.sock", desk, clock=lambda: NOW)
    server.start()
    yield Client(tmp_path / "api.sock")
    server.stop()


def test_the_listing(live: Router) -> None:
    said = live.run("nat", "list")
    assert (said.code, said.out) == (0, LISTED)
    assert "1 more binding" in said.err


def test_the_listing_for_programs(live: Router) -> None:
    said = json.loads(live.run("nat", "list", "--proto", "tcp", "-o", "json").out)
    assert said["sessionCount"] == 1
    (session,) = said["sessions"]
    assert session["inside"] == {"address": "10.0.0.7", "port": 5001, "text": "10.0.0.7:5001"}
    assert (session["policy"], session["interface"]) == ("EBPFNATPolicy/default/home", "eth0")


def test_flushing_wants_to_know_which(live: Router) -> None:
    assert live.run("nat", "flush").code == 2
    assert live.run("nat", "flush", "--all", "--inside", "10.0.0.7").code == 2
    said = live.run("nat", "flush", "--inside", "10.0.0.7")
    assert (said.code, said.out) == (0, "2 sessions and 1 bindings forgotten\n")


def test_filters_reach_the_desk(client: Client, desk: FakeDesk) -> None:
    client.get(
        "/fos1/v1/nat",
        {
            "policy": "default/home",
            "interface": "eth0",
            "protocol": "udp",
            "inside": "10.0.0.0/24",
            "outside": ":5001",
            "far": "[2001:db8::9]:53",
            "limit": "5",
        },
    )
    choice = Choice(
        None,
        17,
        Ends(IPv4Network("10.0.0.0/24")),
        Ends(None, 5001),
        Ends(IPv6Network("2001:db8::9/128"), 53),
    )
    assert desk.asked == [("translations", NatQuery(choice, "default/home", "eth0", 5))]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"inside": "10.0.0.300"}, 400, "inside"),
        ({"inside": "10.0.0.1:70000"}, 400, "at most 65535"),
        ({"protocol": "ipx"}, 400, "none of: tcp"),
        ({"limit": "-1"}, 400, "limit"),
        ({"colour": "red"}, 400, "unknown: colour"),
        ({"interface": "eth9"}, 404, "there are: default/home"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: Client, query: dict[str, str], status: int, said: str
) -> None:
    with pytest.raises(Refused, match=said) as caught:
        client.get("/fos1/v1/nat", query)
    assert caught.value.status == status


@pytest.mark.parametrize("body", [None, {}, {"all": True, "far": "::1"}, {"far": 5}, {"x": "y"}])
def test_nothing_is_flushed_by_mistake(client: Client, desk: FakeDesk, body: object) -> None:
    with pytest.raises(Refused):
        client.post("/fos1/v1/nat/flush", {}, body)
    assert desk.asked == []


def test_the_status_of_a_policy() -> None:
    counts = {"packets": 9, "bytes": 900, "begun": 2, "exhausted": 1}
    one = Translated("wan0", ("203.0.113.1",), 2, {"tcp": 3}, 64512, counts)
    shown = nat_fields(Details(translated=(one,)))
    assert shown["activeConnections"] == 2
    assert shown["externalAddresses"] == [{"interface": "wan0", "addresses": ["203.0.113.1"]}]
    use = {"interface": "wan0", "protocol": "tcp", "used": 3, "available": 64512}
    assert shown["portUse"] == [use]
    wanted = {"packets": 9, "bytes": 900, "translations": 2, "exhausted": 1, "filtered": 0}
    assert wanted.items() <= shown["metrics"].items()
    assert nat_fields(Details()) == {}
