"""Hairpins: insiders who reach each other by outside addresses (RFC 4787, REQ-9)."""

from __future__ import annotations

import pytest

from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import Seen, error, packet, ping, tcp, udp
from tests.kernel.nat_places import (
    ADDRESS,
    ANY,
    DROPPED,
    PORT,
    Place,
    declared,
    ends,
    full,
    masquerade,
    source,
)
from tests.kernel.nat_rig import HOOKS, Nat

pytestmark = pytest.mark.kernel

ALL = " ".join(HOOKS)
GONE = (DROPPED, DROPPED)


def test_two_insiders_meet(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=ANY), hooks=ALL)
    nat.out(udp(at.second, 5001, at.far, 53))
    first = source(nat, udp(at.inside, 5001, at.far, 53))
    for _ in range(3):
        assert ends(nat, udp(at.inside, 5001, at.outside, 5001)) == (first, (at.second, 5001))
        back = ends(nat, udp(at.second, 5001, *first))
        assert back == ((at.outside, 5001), (at.inside, 5001))


@pytest.mark.parametrize("filtering", [PORT, ADDRESS])
def test_both_must_have_tried(kernel: RealKernel, at: Place, filtering: int) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=filtering), hooks=ALL)
    nat.out(udp(at.second, 5001, at.far, 53))
    first = source(nat, udp(at.inside, 5001, at.far, 53))
    assert ends(nat, udp(at.inside, 5001, at.outside, 5001)) == GONE
    assert nat.counts()["filtered"] == 1
    there = ends(nat, udp(at.second, 5001, *first))
    assert there == ((at.outside, 5001), (at.inside, 5001))
    assert ends(nat, udp(at.inside, 5001, at.outside, 5001)) == (first, (at.second, 5001))


def test_a_declared_port_from_inside(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, declared(at, 80, (at.second, 8080)), hooks=ALL)
    there = ends(nat, tcp(at.inside, 4000, at.outside, 80))
    assert there == ((at.outside, 4000), (at.second, 8080))
    back = ends(nat, tcp(at.second, 8080, at.outside, 4000, f.SYN | f.ACK))
    assert back == ((at.outside, 80), (at.inside, 4000))


def test_a_host_reaches_itself(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, declared(at, 80, (at.inside, 8080)), hooks=ALL)
    there = ends(nat, tcp(at.inside, 4000, at.outside, 80))
    assert there == ((at.outside, 4000), (at.inside, 8080))


@pytest.mark.parametrize("who", ["inside", "stranger"])
def test_one_address_for_another_from_inside(kernel: RealKernel, at: Place, who: str) -> None:
    nat = Nat(kernel, at.family, full(at), hooks=ALL)
    host = at.second if who == "inside" else at.stranger
    assert ends(nat, udp(host, 9, at.outside, 53)) == ((at.outside, 9), (at.inside, 53))
    seen = nat.turn(ping(host, at.outside, 5))
    assert seen is not None
    assert (seen.source, seen.dest) == (at.outside, at.inside)


def test_what_is_not_turned(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at), hooks=ALL)
    to_router = udp(at.inside, 5001, at.outside, 53)
    assert ends(nat, to_router) == ((at.inside, 5001), (at.outside, 53))
    elsewhere = udp(at.inside, 5001, at.far, 53)
    assert ends(nat, elsewhere) == ((at.inside, 5001), (at.far, 53))
    nat.out(udp(at.outside, 53, at.far, 53), own=True)
    assert ends(nat, to_router) == ((at.inside, 5001), (at.outside, 53))


def test_hairpins_that_the_policy_forbids(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=ANY, flags=0), hooks=ALL)
    nat.out(udp(at.second, 5001, at.far, 53))
    sent = udp(at.inside, 5001, at.outside, 5001)
    assert ends(nat, sent) == ((at.inside, 5001), (at.outside, 5001))


@pytest.mark.parametrize("own", [False, True])
def test_errors_about_hairpins(kernel: RealKernel, at: Place, own: bool) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=ANY), hooks=ALL)
    nat.out(udp(at.second, 5001, at.far, 53))
    first = source(nat, udp(at.inside, 5001, at.far, 53))
    nat.turn(udp(at.inside, 5001, at.outside, 5001))
    if own:
        between = udp(at.inside, 5001, at.second, 5001)
        seen = nat.turn(error(at.other, at.inside, between), own=True)
    else:
        arrived = udp(*first, at.second, 5001)
        seen = nat.turn(error(at.second, at.outside, arrived))
    assert seen is not None
    assert (seen.source, seen.dest) == (at.other if own else at.outside, at.inside)
    assert seen.quoted == Seen(at.inside, 5001, at.outside, 5001, f.UDP)


def test_new_rules_begin_hairpins_anew(kernel: RealKernel, at: Place) -> None:
    rules = masquerade(at, filtering=ANY)
    nat = Nat(kernel, at.family, rules, hooks=ALL)
    nat.out(udp(at.second, 5001, at.far, 53))
    before = ends(nat, udp(at.inside, 6001, at.outside, 5001))
    nat.put(rules, generation=2)
    nat.age(2)
    assert ends(nat, udp(at.inside, 6001, at.outside, 5001)) == before


def test_fragments_of_a_hairpin(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, declared(at, 80, (at.second, 8080)), hooks=ALL)
    whole = f.tcp(4000, 80, f.SYN, b"x" * 28)
    parts = [(0x2000, whole[:24]), (3, whole[24:])]
    for fragment, content in parts:
        sent = packet(at.inside, at.outside, f.TCP, content, fragment, whole=whole)
        seen = nat.turn(sent)
        assert seen is not None
        assert (seen.source, seen.dest) == (at.outside, at.second)
