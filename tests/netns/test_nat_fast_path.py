"""Translated flows that go past the kernel's stack, at TC and at XDP: the same for hosts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests import frames
from tests.netns.nat_how import Spec, Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, WAN, Addresses, Household
from tests.netns.nat_talk import (
    PATIENCE_S,
    Endpoint,
    Udp,
    dialed,
    endpoint_of,
    listener,
    udp,
)
from tests.netns.nat_wire import faults, wire
from tests.netns.test_nat_checksums import pieces
from tests.netns.test_nat_errors import hop_limit
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT, SERVER, BULK = 40_000, 7000, 3_000_001
WARM, COUNTED = 20, 200
SIZES = (0, 1, 3, 17, 100, 1399, 1451)
NARROW = 1400


@pytest.fixture(params=["tc", "xdp"])
def fast(home: Household, translate: Translator, request: pytest.FixtureRequest) -> Household:
    """The lab with a fast path; hosts poll, so that they take frames of XDP, and finish sums."""
    for host, interface in (
        (home.a, "eth0"),
        (home.b, "eth0"),
        (home.far, "eth0"),
        (home.provider, "near"),
        (home.provider, "beyond"),
    ):
        host.run("ethtool", "-K", interface, "gro", "on", "tx", "off")
    home.router.settings = (
        f'[kernel]\nfast_path = "{request.param}"\n[reconcile]\nprune_limit_percent = 100\n'
    )
    home.router.write_settings()
    translate(home, *policies())
    return home


def policies(*more: Spec) -> tuple[Spec, ...]:
    """Return what all tests here have."""
    declared = (
        dnat(at.second, {"protocol": "udp", "externalPort": SERVER, "internalIP": at.a})
        for at in FAMILIES
    )
    # Named, so that they are held back while there is no address, which is so for a moment below.
    return (masquerade(sourceAddresses=[at.inside for at in FAMILIES]), *declared, *more)


def forwarded(home: Household, at: Addresses) -> int:
    """Return how many packets the router's stack has forwarded."""
    with home.middle.entered():
        if at.version == 6:
            text = Path("/proc/thread-self/net/snmp6").read_text().split()
            return int(text[text.index("Ip6OutForwDatagrams") + 1])
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        head, values = (line.split() for line in lines if line.startswith("Ip: "))
        return int(values[head.index("ForwDatagrams")])


def ping_pong(one: Udp, dest: Endpoint, other: Udp, back: Endpoint, data: bytes = b"?") -> bool:
    """Whether a datagram arrives, and its answer."""
    one.send(dest, data)
    if other.receive() != (data, back):
        return False
    other.send(back, data)
    return one.receive() == (data, dest)


def test_settled_flows_pass_the_stack_by_both_ways(fast: Household, at: Addresses) -> None:
    with udp(fast.a, at.a, PORT) as inside, udp(fast.far, at.far, SERVER) as far:
        for _ in range(WARM):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
        before = forwarded(fast, at)
        for _ in range(COUNTED):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
        # One a second is looked at in full, which is what keeps it alive.
        assert forwarded(fast, at) - before < COUNTED / 2


def test_datagrams_of_all_lengths_with_right_checksums(fast: Household, at: Addresses) -> None:
    content = bytes(range(256)) * 6
    with (
        udp(fast.a, at.a, PORT) as inside,
        udp(fast.far, at.far, SERVER) as far,
        wire(fast.far) as outside,
        wire(fast.a) as within,
    ):
        for _ in range(WARM):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
        for size in SIZES:
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT), content[:size])
        for seen in (outside, within):
            packets = seen.of(frames.UDP)
            assert len(packets) == WARM + len(SIZES)
            for packet in packets:
                assert list(faults(packet)) == [], packet
                assert packet.ttl == 62


def test_a_declared_port(fast: Household, at: Addresses) -> None:
    with udp(fast.a, at.a, SERVER) as inside, udp(fast.far, at.far) as far:
        for _ in range(WARM):
            assert ping_pong(far, (at.second, SERVER), inside, far.endpoint)


def test_a_bulk_of_tcp_both_ways(fast: Household, at: Addresses) -> None:
    with (
        listener(fast.far, at.far) as server,
        dialed(fast.a, at.a, 0, endpoint_of(server.getsockname())) as made,
    ):
        taken, _ = server.accept()
        content = bytes(range(251)) * (BULK // 251 + 1)
        for one, other in ((made, taken), (taken, made)):
            sender = threading.Thread(target=one.sendall, args=(content[:BULK],))
            sender.start()
            other.settimeout(5)
            assert b"".join(pieces(other)) == content[:BULK]
            sender.join()
        taken.close()


def test_fragments_and_expired_hops_of_a_settled_flow(fast: Household, at: Addresses) -> None:
    with (
        udp(fast.a, at.a, PORT) as inside,
        udp(fast.far, at.far, SERVER) as far,
        wire(fast.a) as within,
    ):
        for _ in range(WARM):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
        assert ping_pong(inside, far.endpoint, far, (at.outside, PORT), bytes(9001))
        for ttl, hop in ((1, at.gate_a), (2, at.provider)):
            hop_limit(inside, ttl)
            inside.send(far.endpoint)
            error = within.one(lambda packet: packet.quoted is not None)
            assert error.source == hop
            assert error.quoted is not None
            assert error.quoted.source == at.a
            assert list(faults(error)) == []


def test_a_narrow_way_out_is_told_of(fast: Household, at: Addresses) -> None:
    """The router's own link becomes narrow below a connection."""
    with (
        listener(fast.far, at.far) as server,
        dialed(fast.a, at.a, 0, endpoint_of(server.getsockname())) as made,
    ):
        taken, _ = server.accept()
        for mtu in (1500, NARROW):
            fast.middle.ip("link", "set", "dev", WAN, "mtu", str(mtu))
            sender = threading.Thread(target=made.sendall, args=(bytes(BULK),))
            sender.start()
            taken.settimeout(5)
            assert sum(len(piece) for piece in pieces(taken)) == BULK
            sender.join()
        taken.close()
    assert f"mtu {NARROW}" in fast.a.ip("route", "get", at.far)


def test_what_is_withdrawn_ends_at_once(
    fast: Household, translate: Translator, at: Addresses
) -> None:
    with udp(fast.a, at.a, SERVER) as inside, udp(fast.far, at.far) as far:
        for _ in range(WARM):
            assert ping_pong(far, (at.second, SERVER), inside, far.endpoint)
        translate(fast, masquerade())
        assert inside.is_deaf_to(far, (at.second, SERVER))


def test_a_dead_daemon_changes_nothing(fast: Household, at: Addresses) -> None:
    with udp(fast.a, at.a, PORT) as inside, udp(fast.far, at.far, SERVER) as far:
        for change in (fast.router.kill, fast.router.start, fast.router.kill):
            for _ in range(WARM):
                assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
            change()
        for _ in range(WARM):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))


def test_a_new_address_is_used_by_settled_flows_too(fast: Household, at: Addresses) -> None:
    with udp(fast.a, at.a, PORT) as inside, udp(fast.far, at.far, SERVER) as far:
        for _ in range(WARM):
            assert ping_pong(inside, far.endpoint, far, (at.outside, PORT))
        home = fast.middle
        home.ip(f"-{at.version}", "addr", "flush", "dev", WAN, "scope", "global")
        bits = 24 if at.version == 4 else 64
        home.ip("addr", "add", f"{at.second}/{bits}", "dev", WAN)
        home.ip("route", "replace", "default", "via", at.provider)
        until(lambda: far.hears(inside, far.endpoint, PATIENCE_S) == (at.second, PORT), 5)
