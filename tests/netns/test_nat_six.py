"""IPv6 prefixes without state (RFC 6296), and IPv6 hosts with IPv4 servers (RFC 6146, 7915)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest

from tests import frames
from tests.netns.nat_how import Spec, Translator, by_daemon
from tests.netns.nat_site import V4, V6, WAN, Household
from tests.netns.nat_talk import (
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    pings,
    tcp_between,
    udp,
)
from tests.netns.nat_wire import faults, inject, ones_sum, packet_of, wire

pytestmark = [pytest.mark.netns]

OUTSIDE48 = IPv6Network("2001:db8:c0de::/48")
PREFIX64 = IPv6Network("64:ff9b::/96")


def npt66(inside: str, outside: IPv6Network) -> Spec:
    """Return a policy that replaces a prefix."""
    return {
        "type": "npt66",
        "interface": WAN,
        "externalIP": str(outside.network_address),
        "sourceAddresses": [inside],
    }


def replaced(address: str, inside: IPv6Network, outside: IPv6Network) -> str:
    """Translate an address by hand (RFC 6296, 3.1 to 3.5): add to the first word behind the prefix,
    which is no 0xffff, what the prefixes differ by in their sums."""
    host = int(IPv6Address(address)) & int(inside.hostmask)
    made = (int(outside.network_address) | host).to_bytes(16, "big")
    words = [int.from_bytes(made[i : i + 2], "big") for i in range(0, 16, 2)]
    at = 3 if inside.prefixlen <= 48 else next(i for i in range(4, 8) if words[i] != 0xFFFF)
    before, after = (ones_sum(net.network_address.packed) for net in (inside, outside))
    total = words[at] + before + (after ^ 0xFFFF)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    words[at] = 0 if total == 0xFFFF else total
    return str(IPv6Address(b"".join(word.to_bytes(2, "big") for word in words)))


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("2001:db8:a000::/48", "2001:db8:c0de::/48"),
        ("2001:db8:a000::/48", "2001:db8:c0::/48"),
        ("2001:db8:a000::/56", "2001:db8:c0de:ff00::/56"),
        ("2001:db8:a000::/64", "2001:db8:c0de:7::/64"),
    ],
)
def test_a_prefix_is_replaced_both_ways(
    home: Household, translate: Translator, inside: str, outside: str
) -> None:
    translate(home, npt66(inside, IPv6Network(outside)))
    home.provider.ip("route", "add", outside, "via", V6.outside)
    address = replaced(V6.a, IPv6Network(inside), IPv6Network(outside))
    with udp(home.a, V6.a, 1234) as host, udp(home.far, V6.far) as far:
        assert far.hears(host, far.endpoint) == (address, 1234)
        assert host.hears(far, (address, 1234)) == far.endpoint
        with udp(home.far, V6.far2) as stranger:
            assert host.hears(stranger, (address, 1234)) == stranger.endpoint
    with listener(home.a, V6.a, 443) as server:
        assert tcp_between(home.far, (V6.far, 0), server, (address, 443))[0] == V6.far
    assert pings(home.far, address, "-s", "3000", count=2)
    assert pings(home.a, V6.far, "-I", V6.a, count=2)


def test_prefix_translation_leaves_every_checksum(home: Household, translate: Translator) -> None:
    """Neutral: not a byte but the address changes, whatever the protocol."""
    inside = IPv6Network("2001:db8:a000::/48")
    translate(home, npt66(str(inside), OUTSIDE48))
    home.finish_checksums()
    contents = {frames.UDP: frames.udp(1, 7000, b"odd"), 253: b"unknown", 50: bytes(24)}
    for protocol, content in contents.items():
        packet = packet_of(V6.a, V6.far, protocol, content)
        with wire(home.far) as seen:
            inject(home.a, packet)
            got = seen.one(lambda one, wanted=protocol: one.protocol == wanted)  # type: ignore[misc]
        assert got.source == replaced(V6.a, inside, OUTSIDE48)
        assert got.data[40:] == packet[40:]
        assert list(faults(got)) == []


def test_errors_find_their_way_through_prefix_translation(
    home: Household, translate: Translator
) -> None:
    translate(home, npt66("2001:db8:a000::/48", OUTSIDE48))
    home.provider.ip("route", "add", str(OUTSIDE48), "via", V6.outside)
    home.finish_checksums()
    assert fate_of_dial(home.a, (V6.a, 0), (V6.far, 9)) == "ECONNREFUSED"
    with udp(home.a, V6.a) as inside, wire(home.a) as seen:
        inside.send((V6.far, 9))
        error = seen.one(lambda packet: packet.quoted is not None)
    assert error.quoted is not None
    assert (error.dest, error.quoted.source) == (V6.a, V6.a)
    assert list(faults(error)) == []


# NAT64: host a has only IPv6, the host beyond answers on IPv4.


def nat64(**more: object) -> Spec:
    """Return a policy for IPv6 hosts."""
    inside = "2001:db8:a000::/64"
    base = {"type": "nat64", "interface": WAN, "sourceAddresses": [inside]}
    return {**base, "externalIP": V4.outside, **more}


def mapped(address: str, prefix: IPv6Network = PREFIX64) -> str:
    """Return the IPv6 address of an IPv4 host (RFC 6052, /96)."""
    return str(IPv6Address(int(prefix.network_address) | int(IPv4Address(address))))


def test_an_ipv6_host_reaches_ipv4_servers(home: Household, translate: Translator) -> None:
    translate(home, nat64())
    with listener(home.far, V4.far) as server:
        port = endpoint_of(server.getsockname())[1]
        seen = tcp_between(home.a, (V6.a, 0), server, (mapped(V4.far), port))
        assert seen[0] == V4.outside
    with udp(home.a, V6.a, 1234) as inside, udp(home.far, V4.far, 7000) as far:
        outside = far.hears(inside, (mapped(V4.far), 7000))
        assert outside is not None
        assert outside[0] == V4.outside
        assert inside.hears(far, outside) == (mapped(V4.far), 7000)
    assert pings(home.a, mapped(V4.far), "-s", "101", count=3)


def test_checksums_across_families(home: Household, translate: Translator) -> None:
    translate(home, nat64())
    home.finish_checksums()
    with (
        wire(home.far) as outside,
        wire(home.a) as within,
        udp(home.a, V6.a, 1234) as inside,
        udp(home.far, V4.far, 7000) as far,
    ):
        for size in (0, 1, 3, 17, 1000, 1401):
            outer = far.hears(inside, (mapped(V4.far), 7000))
            assert outer is not None
            inside.send((mapped(V4.far), 7000), bytes(size))
            assert far.receive() == (bytes(size), outer)
            far.send(outer, bytes(size))
            assert inside.receive() == (bytes(size), (mapped(V4.far), 7000))
        assert pings(home.a, mapped(V4.far))
        for seen in (outside, within):
            packets = [one for one in seen.packets() if one.protocol in (1, 17, 58)]
            assert len(packets) > 6
            for packet in packets:
                assert list(faults(packet)) == [], packet


def test_errors_across_families(home: Household, translate: Translator) -> None:
    translate(home, nat64())
    home.finish_checksums()
    with udp(home.a, V6.a) as inside, wire(home.a) as seen:
        inside.socket.connect((mapped(V4.far), 9))
        source = inside.endpoint
        inside.socket.send(b"?")
        error = seen.one(lambda packet: packet.quoted is not None)
        with pytest.raises(ConnectionRefusedError):
            inside.socket.settimeout(1)
            inside.socket.recv(9)
    assert error.quoted is not None
    assert (error.source, error.dest) == (mapped(V4.far), V6.a)
    assert (error.quoted.source, error.quoted.ports) == (V6.a, (source[1], 9))
    assert list(faults(error)) == []
    said = home.a.run("ping", "-n", "-c1", "-W1", "-t2", mapped(V4.far), check=False)
    assert f"From {mapped(V4.provider)}" in said


def test_path_mtu_across_families(home: Household, translate: Translator) -> None:
    """IPv4's 1400 is 1420 for IPv6, whose header is longer by 20 bytes."""
    translate(home, nat64())
    home.provider.ip("link", "set", "dev", "beyond", "mtu", "1400")
    with listener(home.far, V4.far) as server:
        port = endpoint_of(server.getsockname())[1]
        with dialed(home.a, V6.a, 0, (mapped(V4.far), port)) as client:
            taken, _ = server.accept()
            client.sendall(bytes(200_000))
            taken.settimeout(3)
            left = 200_000
            while left:
                left -= len(taken.recv(1 << 16))
            taken.close()
    assert "mtu 1420" in home.a.ip("route", "get", mapped(V4.far))
    assert ip_address(mapped(V4.far)) in PREFIX64


def test_other_prefixes_and_ipv6_stay_themselves(home: Household) -> None:
    by_daemon(home, nat64(prefix64="2001:db8:64::/96"))
    prefix = IPv6Network("2001:db8:64::/96")
    with listener(home.far, V4.far) as server:
        port = endpoint_of(server.getsockname())[1]
        seen = tcp_between(home.a, (V6.a, 0), server, (mapped(V4.far, prefix), port))
        assert seen[0] == V4.outside
    with listener(home.far, V6.far) as server:
        home.provider.ip("route", "add", V6.inside, "via", V6.outside)
        port = endpoint_of(server.getsockname())[1]
        assert tcp_between(home.b, (V6.b, 0), server, (V6.far, port))[0] == V6.b
