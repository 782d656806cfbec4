"""Errors of ICMP through NAT: who quotes what, with how much of it, from whom (RFC 5508)."""

from __future__ import annotations

import pytest

from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import Seen, error, packet, ping, tcp, udp
from tests.kernel.nat_places import V4, Place, full, masquerade, source
from tests.kernel.nat_rig import Nat

pytestmark = pytest.mark.kernel

# How much of a packet is quoted behind its network header: RFC 792's 8 bytes, enough for the
# checksum of TCP, and all.
KEPT = [8, 18, None]


def kept_of(at: Place, transport: int | None) -> int | None:
    """Return how many bytes of a packet are quoted."""
    return None if transport is None else transport + (20 if at.family == 4 else 40)


def prepare(kernel: RealKernel, at: Place, protocol: int) -> tuple[Nat, int]:
    """Return a NAT at which the second host has a flow, and the port that it has outside."""
    nat = Nat(kernel, at.family, masquerade(at))
    make = udp if protocol == f.UDP else tcp
    nat.out(make(at.inside, 5001, at.far, 53))
    port = source(nat, make(at.second, 5001, at.far, 53))[1]
    assert port != 5001
    return nat, port


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("protocol", [f.UDP, f.TCP])
def test_an_error_from_outside(
    kernel: RealKernel, at: Place, protocol: int, kept: int | None
) -> None:
    nat, port = prepare(kernel, at, protocol)
    make = udp if protocol == f.UDP else tcp
    left = make(at.outside, port, at.far, 53)
    seen = nat.come(error(at.other, at.outside, left, kept_of(at, kept)))
    assert seen is not None
    assert (seen.source, seen.dest) == (at.other, at.second)
    assert seen.quoted == Seen(at.second, 5001, at.far, 53, protocol)
    assert nat.counts()["errors"] == 1


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("protocol", [f.UDP, f.TCP])
@pytest.mark.parametrize("sender", ["host", "router inside", "stranger", "own"])
def test_an_error_from_inside(
    kernel: RealKernel, at: Place, protocol: int, kept: int | None, sender: str
) -> None:
    nat, port = prepare(kernel, at, protocol)
    make = udp if protocol == f.UDP else tcp
    came = make(at.far, 53, at.second, 5001)
    routers = at.other
    senders = {
        "host": (at.second, at.outside),
        "router inside": (at.inside, at.outside),
        "stranger": (at.stranger, at.stranger),
        "own": (routers, routers),
    }
    first, after = senders[sender]
    sent = error(first, at.far, came, kept_of(at, kept))
    seen = nat.out(sent, own=sender == "own")
    assert seen is not None
    assert (seen.source, seen.dest) == (after, at.far)
    assert seen.quoted == Seen(at.far, 53, at.outside, port, protocol)


def test_the_checksum_of_what_is_quoted_whole(kernel: RealKernel, at: Place) -> None:
    for protocol in (f.UDP, f.TCP):
        nat, port = prepare(kernel, at, protocol)
        make = udp if protocol == f.UDP else tcp
        left = make(at.outside, port, at.far, 53)
        seen = nat.come(error(at.other, at.outside, left))
        assert seen is not None
        assert seen.content[8:] == make(at.second, 5001, at.far, 53)


def test_an_error_about_a_ping(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(ping(at.inside, at.far, 600))
    number = source(nat, ping(at.second, at.far, 600))[1]
    left = ping(at.outside, at.far, number)
    seen = nat.come(error(at.other, at.outside, left, kept_of(at, 8)))
    assert seen is not None
    assert seen.quoted == Seen(at.second, 600, at.far, 600, left[9 if at.family == 4 else 6])
    assert seen.dest == at.second


def test_an_error_about_other_protocols(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(packet(at.inside, at.far, 47, b"12345678"))
    left = packet(at.outside, at.far, 47, b"12345678")
    seen = nat.come(error(at.far, at.outside, left))
    assert seen is not None
    assert seen.quoted == Seen(at.inside, 0, at.far, 0, 47)


def test_errors_of_no_flow(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    stray = udp(at.outside, 9, at.far, 53)
    seen = nat.come(error(at.far, at.outside, stray))
    assert seen is not None
    assert seen.dest == at.outside
    assert nat.out(error(at.inside, at.far, udp(at.far, 53, at.inside, 9))) is None
    assert nat.out(error(at.stranger, at.far, udp(at.far, 53, at.stranger, 9))) is not None
    assert nat.out(error(at.outside, at.far, udp(at.far, 53, at.outside, 9)), own=True) is not None


def test_errors_neither_refresh_nor_end_a_flow(kernel: RealKernel, at: Place) -> None:
    nat, port = prepare(kernel, at, f.UDP)
    left = udp(at.outside, port, at.far, 53)
    nat.age(200)
    assert nat.come(error(at.far, at.outside, left)) is not None
    assert source(nat, udp(at.second, 5001, at.far, 53)) == (at.outside, port)
    nat.age(200)
    nat.come(error(at.far, at.outside, left))
    nat.age(200)
    seen = nat.come(error(at.far, at.outside, left))
    assert seen is not None
    assert seen.dest == at.outside


@pytest.mark.parametrize("flags", [0, 1])
def test_errors_where_one_address_is_another(kernel: RealKernel, at: Place, flags: int) -> None:
    nat = Nat(kernel, at.family, full(at, flags))
    nat.out(udp(at.inside, 9, at.far, 53))
    seen = nat.come(error(at.other, at.outside, udp(at.outside, 9, at.far, 53)))
    assert seen is not None
    assert seen.quoted == Seen(at.inside, 9, at.far, 53, f.UDP)
    assert seen.dest == at.inside


def test_a_datagram_without_checksum_that_is_quoted(kernel: RealKernel) -> None:
    nat, port = prepare(kernel, V4, f.UDP)
    left = packet(V4.outside, V4.far, f.UDP, f.udp(port, 53, b"x"), unsummed=True)
    seen = nat.come(error(V4.other, V4.outside, left))
    assert seen is not None
    assert seen.content[8 + 20 + 6 : 8 + 20 + 8] == b"\0\0"
