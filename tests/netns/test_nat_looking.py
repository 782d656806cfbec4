"""What people see of translations, and what they can do about them."""

from __future__ import annotations

from typing import Any

import pytest

from fos1d.kernel.addresses import forwarding, with_addresses
from fos1d.kernel.netlink import Netlink
from fos1d.kernel.rivals import find_rivals
from fos1d.model.facts import Rival
from tests import lab
from tests.netns.nat_how import Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, WAN, Addresses, Household
from tests.netns.nat_talk import udp
from tests.running import ROOT, until

pytestmark = pytest.mark.netns
BOTH = pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"])
PORT, SERVER = 40_000, 8080
CHAIN = "chain post { type nat hook postrouting priority srcnat; }"
RULES = (
    "oifname v0 masquerade",
    "oif v0 snat to 192.0.2.1",
    'oifname "ppp*" jump more',
    'oifname { "v7", "v8" } masquerade',
)


def written(address: str, port: int) -> str:
    """Return an end as people write it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@BOTH
def test_sessions_are_listed_chosen_and_forgotten(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    router = home.router
    with udp(home.a, at.a, PORT) as one, udp(home.b, at.b) as two, udp(home.far, at.far) as far:
        assert far.hears(one, far.endpoint) == (at.outside, PORT)
        assert far.hears(two, far.endpoint) is not None
        assert router.json("nat", "list")["sessionCount"] == 2
        (session,) = router.json("nat", "list", "--inside", written(at.a, PORT))["sessions"]
        assert (session["outside"]["address"], session["outside"]["port"]) == (at.outside, PORT)
        assert session["far"]["address"] == at.far
        assert session["policy"] == "EBPFNATPolicy/default/nat0"
        gone = router.json("nat", "flush", "--inside", at.a)
        assert (gone["sessionCount"], gone["bindingCount"]) == (1, 1)
        assert router.json("nat", "list", "--interface", WAN)["sessionCount"] == 1
        assert router.json("nat", "list", "--policy", "nat0")["sessionCount"] == 1
        assert far.hears(one, far.endpoint) == (at.outside, PORT)


@BOTH
def test_the_status_counts(home: Household, translate: Translator, at: Addresses) -> None:
    translate(home, masquerade(portRange=f"{PORT}-{PORT}"))
    with (
        udp(home.a, at.a, PORT) as one,
        udp(home.a, at.a, PORT + 1) as two,
        udp(home.far, at.far) as far,
    ):
        assert far.hears(one, far.endpoint) == (at.outside, PORT)
        two.send(far.endpoint)
        until(lambda: status(home)["metrics"]["exhausted"] == 1, 5)
    found = status(home)
    assert found["activeConnections"] == 1
    (use,) = found["portUse"]
    assert (use["protocol"], use["used"], use["available"]) == ("udp", 1, 1)
    assert found["metrics"]["translations"] == 1
    assert at.outside in str(found["externalAddresses"])
    page = home.router.ctl("describe", "enat/nat0").stdout
    assert "Active connections:  1" in page
    assert "1 of 1" in page


def status(home: Household) -> Any:
    """Return the status of the only policy."""
    return home.router.json("get", "enat/nat0")["status"]


@BOTH
def test_explanations(home: Household, translate: Translator, at: Addresses) -> None:
    mapping = {"protocol": "tcp", "externalPort": 80, "internalIP": at.a, "internalPort": SERVER}
    translate(home, masquerade(), dnat(at.outside, mapping))
    inside, far = written(at.a, PORT), written(at.far, 53)
    out = explained(home, "lan0", WAN, "udp", inside, far)
    assert f"source {inside} becomes {written(at.outside, PORT)}" in out
    assert "EBPFNATPolicy/default/nat0" in out
    back = explained(home, WAN, "lan0", "udp", far, written(at.outside, PORT))
    assert "destination" not in back
    with udp(home.a, at.a, PORT) as one, udp(home.far, at.far) as other:
        assert other.hears(one, other.endpoint) == (at.outside, PORT)
        answer = written(at.far, other.endpoint[1])
        back = explained(home, WAN, "lan0", "udp", answer, written(at.outside, PORT))
        assert f"destination {written(at.outside, PORT)} becomes {inside}" in back
        stranger = explained(home, WAN, "lan0", "udp", far, written(at.outside, PORT))
        assert stranger.endswith("drop\n")
        assert "filtered" in stranger
    web = explained(home, WAN, "lan0", "tcp", far, written(at.outside, 80))
    assert f"destination {written(at.outside, 80)} becomes {written(at.a, SERVER)}" in web
    assert "EBPFNATPolicy/default/nat1" in web
    assert home.router.json("nat", "list")["sessionCount"] == 1


def explained(home: Household, *packet: str) -> str:
    """Explain a packet: in, out, protocol, source, destination."""
    options = ("--in", "--out", "--proto", "--src", "--dst")
    words = [word for pair in zip(options, packet, strict=True) for word in pair]
    return home.router.ctl("explain", *words).stdout


def test_nothing_is_left_after_a_purge(home: Household, translate: Translator) -> None:
    translate(home, masquerade())
    assert any(home.router.bpffs.rglob("nat_flows4"))
    home.router.stop()
    home.middle.run(str(ROOT / ".venv/bin/fos1d"), "purge", "--config", str(home.router.config))
    assert not list(home.router.bpffs.rglob("*"))
    assert "fos1" not in home.middle.run("tc", "filter", "show", "dev", WAN, "egress")


def test_facts_of_addresses_forwarding_and_others_translations() -> None:
    with lab.namespaces("facts") as (here,):
        here.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for name in ("v0", "v1"):
            here.ip("link", "set", "dev", name, "up")
        lab.address(here, "v0", "192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/32")
        lab.address(here, "v0", "2001:db8::1/64", "fd00::1/64", "2001:db8::2/64")
        here.ip("addr", "add", "2001:db8::9/64", "dev", "v0", "nodad", "preferred_lft", "0")
        here.run("nft", "add", "table", "ip", "nat")
        here.run("nft", f"add {CHAIN.replace('chain post', 'chain ip nat post')}")
        here.run("nft", "add chain ip nat more")
        here.run("nft", "add rule ip nat more masquerade")
        for rule in RULES:
            here.run("nft", f"add rule ip nat post {rule}")
        here.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        with here.entered():
            netlink = Netlink()
            plain = {name: link.interface for name, link in netlink.links().items()}
            found = with_addresses(plain, netlink.address_messages())["v0"]
            rivals = find_rivals({one.index: one.name for one in plain.values()})
            netlink.close()
            assert forwarding() == {4: False, 6: True}
    assert [str(a) for a in found.addresses if a.version == 4] == [
        "192.0.2.1",
        "198.51.100.1",
        "192.0.2.2",
    ]
    assert [str(a) for a in found.addresses if a.version == 6] == [
        "2001:db8::2",
        "2001:db8::1",
        "fd00::1",
    ]
    assert rivals == tuple(Rival("ip nat post", one) for one in ("ppp*", "v0", "v7", "v8"))
