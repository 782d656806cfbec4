"""What becomes of translations when addresses, interfaces, rules and the daemon change."""

from __future__ import annotations

import time

import pytest

from tests import lab
from tests.flow import steady_flow
from tests.netns.nat_how import Translator, dnat, masquerade, snat
from tests.netns.nat_site import FAMILIES, LINK_BITS, WAN, Addresses, Household
from tests.netns.nat_talk import SILENCE_S, dialed, endpoint_of, listener, tcp_between, udp
from tests.netns.nat_wire import wire
from tests.netns.sockets import is_answered
from tests.netns.talk import echo
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT, SERVER = 40_000, 8080
NEW = {4: "203.0.113.77", 6: "2001:db8:113::77"}
VERSIONS, INTERVAL_S = 20, 0.1


def renumber(home: Household, at: Addresses) -> str:
    """Give the router another outside address, as a provider does; return it."""
    new = NEW[at.version]
    without_addresses(home, at)
    lab.address(home.middle, WAN, f"{new}/{LINK_BITS[at.version]}")
    home.middle.ip("route", "replace", "default", "via", at.provider)
    return new


def without_addresses(home: Household, at: Addresses) -> None:
    """Take away the router's outside addresses of a family."""
    home.middle.ip(f"-{at.version}", "addr", "flush", "dev", WAN, "scope", "global")


def test_new_flows_use_the_new_address_and_old_bindings_go(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        assert at.outside in home.router.ctl("nat", "list").stdout
        new = renumber(home, at)
        with udp(home.a, at.a) as fresh:
            until(
                lambda: (far.hears(fresh, far.endpoint, SILENCE_S) or ("",))[0] == new,
                5,
                "new flows use the new address",
            )
        # Who asks again gets the new address too, on the same port.
        assert far.hears(inside, far.endpoint) == (new, PORT)
        assert inside.hears(far, (new, PORT)) == far.endpoint
        until(lambda: at.outside not in home.router.ctl("nat", "list").stdout, 10)
    assert home.router.ready("enat", "nat0")
    assert new in home.router.ctl("describe", "enat/nat0").stdout


def test_without_an_address_nothing_leaves(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(sourceAddresses=[at.inside]))
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        without_addresses(home, at)
        home.middle.ip("route", "replace", "default", "dev", WAN)
        home.middle.ip("neigh", "replace", at.far, "dev", WAN, "lladdr", mac(home.provider, "near"))
        until(lambda: not home.router.ready("enat", "nat0"), 5)
        assert home.router.condition("enat", "nat0")["reason"] == "NoAddress"
        with wire(home.provider, "near") as outside:
            inside.send(far.endpoint)
            assert outside.of(17, SILENCE_S) == []
        new = renumbered_back(home, at)
        until(lambda: home.router.ready("enat", "nat0"), 5)
        assert far.hears(inside, far.endpoint) == (new, PORT)


def mac(host: lab.Namespace, interface: str) -> str:
    """Return an interface's hardware address."""
    return host.ip("-br", "link", "show", "dev", interface).split()[2]


def renumbered_back(home: Household, at: Addresses) -> str:
    """Give the router an address again."""
    new = NEW[at.version]
    lab.address(home.middle, WAN, f"{new}/{LINK_BITS[at.version]}")
    home.middle.ip("neigh", "flush", "dev", WAN)
    home.middle.ip("route", "replace", "default", "via", at.provider)
    return new


def test_an_interface_that_is_made_anew(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """As PPPoE does at each dial: another index, nothing attached."""
    translate(home, masquerade())
    with listener(home.far, at.far) as server:
        dest = endpoint_of(server.getsockname())
        assert tcp_between(home.a, (at.a, 0), server, dest)[0] == at.outside
        home.middle.ip("link", "del", "dev", WAN)
        until(lambda: not home.router.ready("enat", "nat0"), 5)
        lab.veth(home.middle, WAN, home.provider, "near")
        for one in FAMILIES:
            bits = LINK_BITS[one.version]
            lab.address(home.provider, "near", f"{one.provider}/{bits}")
            lab.address(home.middle, WAN, *(f"{each}/{bits}" for each in one.of_router))
        home.middle.ip("route", "replace", "default", "via", at.provider)
        until(lambda: home.router.ready("enat", "nat0"), 10)
        assert tcp_between(home.a, (at.a, 0), server, dest)[0] == at.outside


def test_connections_outlive_the_daemon_and_begin_without_it(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with (
        echo(home.far, at.far, SERVER),
        dialed(home.a, at.a, 0, (at.far, SERVER)) as kept,
        steady_flow(home.a, home.far, at.a, at.far) as flow,
    ):
        for change in (home.router.kill, home.router.start, home.router.stop, home.router.start):
            change()
            assert is_answered(kept, 3)
            with dialed(home.b, at.b, 0, (at.far, SERVER)) as made:
                assert is_answered(made, 3)
        assert flow.answered
    assert flow.lost() == []


def test_nothing_is_lost_while_rules_are_replaced(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Each version has other timeouts and ports: other tables, other programs."""
    mapping = {"protocol": "udp", "externalPort": 9000, "internalIP": at.a}
    translate(home, masquerade(), dnat(at.second, mapping))
    with (
        steady_flow(home.a, home.far, at.a, at.far) as outwards,
        udp(home.far, at.far, 7000) as far,
        udp(home.b, at.b, PORT) as inside,
    ):
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        for number in range(VERSIONS):
            began = time.monotonic()
            more = {"protocol": "tcp", "externalPort": 8000 + number, "internalIP": at.b}
            translate(
                home,
                masquerade(timeouts={"icmp": f"{60 + number}s"}),
                dnat(at.second, mapping, more),
            )
            assert inside.hears(far, (at.outside, PORT)) == far.endpoint
            time.sleep(max(began + INTERVAL_S - time.monotonic(), 0))
    assert outwards.sent > 500
    assert outwards.lost() == []


def test_what_new_rules_do_not_have_ends(
    home: Household, translate: Translator, at: Addresses
) -> None:
    mapping = {"protocol": "tcp", "externalPort": SERVER, "internalIP": at.a}
    other = {"protocol": "tcp", "externalPort": SERVER + 1, "internalIP": at.a}
    translate(home, dnat(at.outside, mapping, other), snat(at.second, sourceAddresses=[at.inside]))
    with (
        echo(home.a, at.a, SERVER, SERVER + 1),
        echo(home.far, at.far, SERVER),
        dialed(home.far, at.far, 0, (at.outside, SERVER)) as withdrawn,
        dialed(home.far, at.far, 0, (at.outside, SERVER + 1)) as kept,
        dialed(home.b, at.b, 0, (at.far, SERVER)) as moved,
    ):
        for one in (withdrawn, kept, moved):
            assert is_answered(one)
        translate(home, dnat(at.outside, other), snat(at.outside, sourceAddresses=[at.inside]))
        assert is_answered(kept, 3)
        assert not is_answered(withdrawn)
        # Its packets come from another address now: a new flow, which no server knows.
        assert not is_answered(moved)
