"""Beside nftables: its NAT on other interfaces goes on, and one on ours is warned about."""

from __future__ import annotations

import pytest

from tests import lab
from tests.netns.nat_how import Translator, masquerade
from tests.netns.nat_site import FAMILIES, LINK_BITS, Addresses, Household
from tests.netns.nat_talk import endpoint_of, listener, tcp_between, udp
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

TUNNEL = {4: ("192.168.77.1", "192.168.77.2"), 6: ("2001:db8:77::1", "2001:db8:77::2")}
TABLE = "table inet other {{\nchain post {{\ntype nat hook postrouting priority srcnat;\n{}\n}}\n}}"


def other_way_out(home: Household, at: Addresses) -> str:
    """Make a second link to the host beyond; return that host's address there."""
    ours, theirs = TUNNEL[at.version]
    lab.veth(home.middle, "vpn0", home.far, "vpn0")
    lab.address(home.middle, "vpn0", f"{ours}/{LINK_BITS[at.version]}")
    lab.address(home.far, "vpn0", f"{theirs}/{LINK_BITS[at.version]}")
    return theirs


def test_netfilter_translates_on_another_interface(
    home: Household, translate: Translator, at: Addresses
) -> None:
    theirs = other_way_out(home, at)
    home.middle.run("nft", TABLE.format("oifname vpn0 masquerade"))
    translate(home, masquerade())
    with listener(home.far, at.far) as one, listener(home.far, theirs) as two:
        for _ in range(3):
            seen = tcp_between(home.a, (at.a, 0), one, endpoint_of(one.getsockname()))
            assert seen[0] == at.outside
            seen = tcp_between(home.a, (at.a, 0), two, endpoint_of(two.getsockname()))
            assert seen[0] == TUNNEL[at.version][0]
    assert home.router.condition("enat", "nat0", "Conflicted").get("status") != "True"


def test_netfilter_on_the_same_interface_is_warned_about(
    home: Household, translate: Translator, at: Addresses
) -> None:
    home.middle.run("nft", TABLE.format("oifname wan0 masquerade"))
    translate(home, masquerade())
    until(lambda: home.router.condition("enat", "nat0", "Conflicted").get("status") == "True", 10)
    with udp(home.a, at.a) as inside, udp(home.far, at.far) as far:
        outside = far.hears(inside, far.endpoint)
        assert outside is not None
        assert outside[0] == at.outside
        assert inside.hears(far, outside) == far.endpoint


def test_connection_tracking_may_watch(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """A stateful filter of nftables sees inside addresses only, both ways, and is content."""
    family = "ip" if at.version == 4 else "ip6"
    rules = (
        "type filter hook forward priority 0; policy drop;",
        "ct state established,related accept",
        f"iifname lan0 {family} saddr {at.inside} ct state new accept",
    )
    body = "\n".join(rules)
    home.middle.run("nft", f"table inet guard {{\nchain forwarded {{\n{body}\n}}\n}}")
    translate(home, masquerade())
    with (
        listener(home.far, at.far) as server,
        udp(home.a, at.a) as inside,
        udp(home.far, at.far) as far,
    ):
        dest = endpoint_of(server.getsockname())
        assert tcp_between(home.a, (at.a, 0), server, dest)[0] == at.outside
        outside = far.hears(inside, far.endpoint)
        assert outside is not None
        assert inside.hears(far, outside) == far.endpoint
