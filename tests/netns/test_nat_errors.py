"""ICMP errors through the translation, and what hangs on them: path MTU, traceroute, refusals.

RFC 4787 REQ-12 and REQ-13, RFC 5382 REQ-9 and REQ-10, RFC 5508 REQ-3 to REQ-7 and REQ-10.
"""

from __future__ import annotations

import errno
import socket

import pytest

from tests.netns.nat_how import Translator, dnat, full, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    SILENCE_S,
    Udp,
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    pings,
    udp,
)
from tests.netns.nat_wire import Packet, faults, inject, packet_of, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.usefixtures("whole_checksums"),
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT, CLOSED = 40_000, 9
# A link of the provider that is narrower than an Ethernet.
NARROW = 1400
UNREACHABLE = {4: (1, b"\3\3"), 6: (58, b"\1\4")}
EXPIRED = {4: (1, b"\x0b\0"), 6: (58, b"\3\0")}


@pytest.fixture
def whole_checksums(home: Household) -> None:
    """Have quotes carry the checksums that they had on a wire."""
    home.finish_checksums()


def error_of(one: Udp, patience_s: float = 1.0) -> str:
    """Return the name of the error that a connected socket is told, "" for none."""
    one.socket.settimeout(patience_s)
    try:
        one.socket.recv(64)
    except TimeoutError:
        return ""
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "no error but data"


def test_a_refusal_reaches_the_inside_socket(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    with udp(home.a, at.a) as inside, wire(home.a) as seen:
        inside.socket.connect((at.far, CLOSED))
        source = inside.endpoint
        inside.socket.send(b"?")
        assert error_of(inside) == "ECONNREFUSED"
        error = seen.one(lambda packet: packet.quoted is not None)
    assert error.quoted is not None
    assert (error.source, error.dest) == (at.far, at.a)
    assert (error.quoted.source, error.quoted.dest) == (at.a, at.far)
    assert error.quoted.ports == (source[1], CLOSED)
    assert list(faults(error)) == []
    assert fate_of_dial(home.a, (at.a, 0), (at.far, CLOSED)) == "ECONNREFUSED"


def test_an_inside_hosts_refusal_reaches_the_outside_socket(
    home: Household, either: Translator, at: Addresses
) -> None:
    mapping = {"protocol": "udp", "externalPort": 7000, "internalIP": at.a, "internalPort": CLOSED}
    either(home, dnat(at.outside, mapping), masquerade())
    with udp(home.far, at.far) as client, wire(home.far) as seen:
        client.socket.connect((at.outside, 7000))
        source = client.endpoint
        client.socket.send(b"?")
        assert error_of(client) == "ECONNREFUSED"
        error = seen.one(lambda packet: packet.quoted is not None)
    assert error.quoted is not None
    assert (error.source, error.dest) == (at.outside, at.far)
    assert (error.quoted.source, error.quoted.dest) == (at.far, at.outside)
    assert error.quoted.ports == (source[1], 7000)
    assert list(faults(error)) == []


@pytest.mark.parametrize("quoted_bytes", [8, 12, 28, 548])
@pytest.mark.parametrize("protocol", [6, 17])
def test_short_quotes_are_enough(
    home: Household, translate: Translator, at: Addresses, protocol: int, quoted_bytes: int
) -> None:
    """RFC 792 lets a router quote eight bytes of what it refuses; netfilter wants more of TCP."""
    translate(home, masquerade())
    head = PORT.to_bytes(2, "big") + CLOSED.to_bytes(2, "big")
    rest = {6: bytes(8) + b"\x50\x02\x10\0\0\0\0\0", 17: (1008).to_bytes(2, "big") + b"\0\0"}
    content = head + rest[protocol] + bytes(1000)
    with wire(home.provider, "near") as outside, wire(home.a) as inside:
        inject(home.a, packet_of(at.a, at.far, protocol, content))
        sent = outside.one(lambda packet: packet.protocol == protocol)
        kind, words = UNREACHABLE[at.version]
        quote = sent.data[: sent.head_bytes + quoted_bytes]
        error = packet_of(at.provider, at.outside, kind, words + bytes(6) + quote)
        inject(home.provider, error)
        told = inside.one(lambda one: one.quoted is not None and one.source == at.provider)
    assert told.quoted is not None
    assert (told.source, told.dest) == (at.provider, at.a)
    assert (told.quoted.source, told.quoted.ports) == (at.a, (PORT, CLOSED))
    assert len(told.data) == len(error)
    assert list(faults(told)) == []


def test_errors_about_nothing_known_stay_outside(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, masquerade())
    kind, words = UNREACHABLE[at.version]
    head = PORT.to_bytes(2, "big") + CLOSED.to_bytes(2, "big") + bytes(4)
    with udp(home.a, at.a, PORT), wire(home.a) as inside:
        for source, dest in ((at.outside, at.far), (at.a, at.far), (at.far, at.outside)):
            quote = packet_of(source, dest, 17, head)
            inject(home.far, packet_of(at.far, at.outside, kind, words + bytes(6) + quote))
        assert [one for one in inside.packets(SILENCE_S) if one.quoted is not None] == []


def test_an_error_ends_nothing(home: Household, either: Translator, at: Addresses) -> None:
    """RFC 4787 REQ-12, RFC 5382 REQ-10: whoever can send errors cannot end a connection."""
    either(home, masquerade())
    kind, words = UNREACHABLE[at.version]
    with listener(home.far, at.far) as server:
        dest = endpoint_of(server.getsockname())
        with dialed(home.a, at.a, PORT, dest) as made:
            taken, peer = server.accept()
            quote = packet_of(at.outside, at.far, 6, _tcp_head(peer[1], dest[1]))
            error = packet_of(at.provider, at.outside, kind, words + bytes(6) + quote)
            inject(home.provider, *[error] * 5)
            for one, other in ((made, taken), (taken, made)):
                one.sendall(b"still here")
                other.settimeout(2)
                assert other.recv(64) == b"still here"
            taken.close()


def _tcp_head(source: int, dest: int) -> bytes:
    return source.to_bytes(2, "big") + dest.to_bytes(2, "big") + bytes(8) + b"\x50\x10" + bytes(6)


def test_traceroute_sees_every_hop(home: Household, either: Translator, at: Addresses) -> None:
    either(home, masquerade())
    hops = []
    for ttl in (1, 2, 3):
        with udp(home.a, at.a) as probe, wire(home.a) as seen:
            hop_limit(probe, ttl)
            probe.send((at.far, 33434 + ttl))
            error = seen.one(lambda packet: packet.quoted is not None)
        assert error.quoted is not None
        assert error.quoted.source == at.a
        assert list(faults(error)) == []
        hops.append(error.source)
    assert hops == [at.gate_a, at.provider, at.far]


def hop_limit(one: Udp, ttl: int) -> None:
    """Let packets of a socket live for so many hops."""
    if one.socket.family == socket.AF_INET:
        one.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        one.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def test_a_ping_that_expires_is_told(home: Household, either: Translator, at: Addresses) -> None:
    """The quote of an error may be an echo: its identifier is translated back."""
    either(home, masquerade())
    for host, source in ((home.a, at.a), (home.b, at.b)):
        said = host.run(
            "ping", "-n", "-c1", "-W1", "-t2", "-e", "77", "-I", source, at.far, check=False
        )
        assert f"From {at.provider}" in said


def test_traceroute_from_outside_names_no_inside_address(
    home: Household, either: Translator, at: Addresses
) -> None:
    either(home, full(at.second, at.a))
    with udp(home.far, at.far) as probe, wire(home.far) as seen:
        for ttl in (2, 3):
            hop_limit(probe, ttl)
            probe.send((at.second, 33_434))
        errors = [one for one in seen.packets() if one.quoted is not None]
    assert [error.source for error in errors][-1] == at.second
    for error in errors:
        assert error.quoted is not None
        assert error.quoted.dest == at.second
        assert list(faults(error)) == []


def narrow(home: Household) -> None:
    """Make the link beyond the provider narrow, one way and the other."""
    home.provider.ip("link", "set", "dev", "beyond", "mtu", str(NARROW))


def test_path_mtu_is_found_outwards(home: Household, either: Translator, at: Addresses) -> None:
    either(home, masquerade())
    narrow(home)
    head = 28 if at.version == 4 else 48
    size = NARROW - head
    assert pings(home.a, at.far, "-M", "do", "-s", str(size))
    assert not pings(home.a, at.far, "-M", "do", "-s", str(size + 1))
    assert f"mtu {NARROW}" in home.a.ip("route", "get", at.far)


def test_path_mtu_is_found_inwards(home: Household, either: Translator, at: Addresses) -> None:
    """The narrow link is inside: the router itself says so, of an address that is not outside."""
    mapping = {"protocol": "tcp", "externalPort": 8080, "internalIP": at.a}
    either(home, dnat(at.outside, mapping), masquerade())
    home.middle.ip("link", "set", "dev", "lan0", "mtu", str(NARROW))
    with (
        listener(home.a, at.a, 8080) as server,
        dialed(home.far, at.far, 0, (at.outside, 8080)) as client,
    ):
        taken, _ = server.accept()
        client.sendall(bytes(100_000))
        assert received(taken) == 100_000
        taken.close()
    assert f"mtu {NARROW}" in home.far.ip("route", "get", at.outside)


def received(taken: socket.socket) -> int:
    """Return how many bytes come until nothing does for a while."""
    total = 0
    taken.settimeout(2)
    try:
        while total < 100_000 and (data := taken.recv(1 << 16)):
            total += len(data)
    except TimeoutError:
        pass
    return total


def test_tcp_gets_through_a_narrow_link(home: Household, either: Translator, at: Addresses) -> None:
    either(home, masquerade())
    narrow(home)
    with (
        listener(home.far, at.far) as server,
        dialed(home.a, at.a, 0, endpoint_of(server.getsockname())) as client,
    ):
        taken, _ = server.accept()
        client.sendall(bytes(100_000))
        assert received(taken) == 100_000
        taken.close()


def test_a_quote_within_a_hairpin(home: Household, translate: Translator, at: Addresses) -> None:
    """RFC 5508 REQ-7: an error about a hairpin finds its way like any other."""
    mapping = {"protocol": "udp", "externalPort": 7000, "internalIP": at.b, "internalPort": CLOSED}
    translate(home, dnat(at.outside, mapping), masquerade())
    with udp(home.a, at.a) as inside, wire(home.a) as seen:
        inside.socket.connect((at.outside, 7000))
        source = inside.endpoint
        inside.socket.send(b"?")
        assert error_of(inside) == "ECONNREFUSED"
        error: Packet = seen.one(lambda packet: packet.quoted is not None)
    assert error.quoted is not None
    assert (error.source, error.quoted.dest) == (at.outside, at.outside)
    assert error.quoted.ports == (source[1], 7000)
    assert list(faults(error)) == []
