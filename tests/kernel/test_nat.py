"""Address translation, packet by packet: ends, flows, filtering, declared ports, both families."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fos1d import abi
from fos1d.kernel.port import RealKernel
from tests import frames as f
from tests.kernel.nat_packets import packet, ping, tcp, udp
from tests.kernel.nat_places import (
    ADDRESS,
    ANY,
    DROPPED,
    PORT,
    V4,
    V6,
    Place,
    declared,
    dest,
    full,
    masquerade,
    source,
)
from tests.kernel.nat_rig import POLICY, Nat, words

pytestmark = pytest.mark.kernel


def test_a_port_is_kept_and_the_answer_comes_back(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    for _ in range(3):
        assert source(nat, udp(at.inside, 5001, at.far, 53)) == (at.outside, 5001)
        assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.inside, 5001)
    assert nat.counts()["packets"] == 6
    assert nat.counts()["begun"] == 1


def test_two_hosts_with_one_port_get_two_of_one_parity(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    assert source(nat, udp(at.inside, 5001, at.far, 53)) == (at.outside, 5001)
    address, port = source(nat, udp(at.second, 5001, at.far, 53))
    assert address == at.outside
    assert port != 5001
    assert port % 2 == 1
    assert port >= 1024
    assert dest(nat, udp(at.far, 53, at.outside, port)) == (at.second, 5001)


def test_the_mapping_does_not_depend_on_the_far_end(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(udp(at.inside, 5001, at.far, 53))
    first = source(nat, udp(at.second, 5001, at.far, 53))
    assert source(nat, udp(at.second, 5001, at.other, 99)) == first


@pytest.mark.parametrize("filtering", [PORT, ADDRESS, ANY])
def test_filtering(kernel: RealKernel, at: Place, filtering: int) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=filtering))
    nat.out(udp(at.inside, 5001, at.far, 53))
    let_in, kept_out = (at.inside, 5001), DROPPED
    by_port = dest(nat, udp(at.far, 99, at.outside, 5001))
    assert by_port == (kept_out if filtering == PORT else let_in)
    by_address = dest(nat, udp(at.other, 53, at.outside, 5001))
    assert by_address == (let_in if filtering == ANY else kept_out)
    assert nat.counts()["filtered"] == 2 - filtering


def test_strangers_do_not_hold_a_port(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, filtering=ANY))
    nat.out(udp(at.inside, 5001, at.far, 53))
    for _ in range(3):
        nat.age(150)
        nat.come(udp(at.far, 53, at.outside, 5001))
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.outside, 5001)


def test_a_ping_has_its_identifier_for_a_port(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    assert source(nat, ping(at.inside, at.far, 600)) == (at.outside, 600)
    _, other = source(nat, ping(at.second, at.far, 600))
    assert other != 600
    assert dest(nat, ping(at.far, at.outside, other, is_answer=True)) == (at.second, 600)
    assert dest(nat, ping(at.far, at.outside, 600)) == (at.outside, 600)
    assert source(nat, ping(at.inside, at.far, 5, is_answer=True)) == DROPPED


def test_tcp_and_a_range_that_is_exhausted(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, first_port=7000, last_port=7001))
    assert source(nat, tcp(at.inside, 7000, at.far, 80)) == (at.outside, 7000)
    assert source(nat, tcp(at.second, 7000, at.far, 80)) == (at.outside, 7001)
    assert source(nat, tcp(at.second, 7001, at.far, 80)) == DROPPED
    assert nat.counts()["exhausted"] == 1
    assert source(nat, tcp(at.inside, 7000, at.far, 80, f.ACK)) == (at.outside, 7000)
    nat.age(250)
    assert source(nat, tcp(at.second, 7001, at.far, 80)) == (at.outside, 7001)


def test_a_small_range_is_used_up(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, first_port=2001, last_port=2101))
    got = {source(nat, udp(at.inside, 3000 + n, at.far, 53))[1] for n in range(101)}
    assert got == set(range(2001, 2102))


def test_what_begins_nothing_and_what_is_not_translated(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    assert source(nat, tcp(at.inside, 9, at.far, 80, f.RST)) == DROPPED
    assert source(nat, udp(at.stranger, 5, at.far, 53)) == (at.stranger, 5)
    assert dest(nat, udp(at.far, 53, at.outside, 9)) == (at.outside, 9)
    assert nat.counts()["refused"] == 1


def test_no_address_means_that_nothing_leaves(kernel: RealKernel, at: Place) -> None:
    rules = masquerade(at)
    rules.policies[POLICY][f"external{at.family}"] = 0
    nat = Nat(kernel, at.family, rules)
    assert source(nat, udp(at.inside, 5001, at.far, 53)) == DROPPED


def test_other_protocols_go_by_their_addresses(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    gre = 47
    assert source(nat, packet(at.inside, at.far, gre, b"12345678")) == (at.outside, 0)
    assert dest(nat, packet(at.far, at.outside, gre, b"12345678")) == (at.inside, 0)
    assert source(nat, packet(at.second, at.far, gre, b"12345678")) == DROPPED
    assert source(nat, packet(at.second, at.other, gre, b"12345678")) == (at.outside, 0)
    lite = packet(at.inside, at.far, 136, f.udp(7, 8, b"lite"))
    seen = nat.out(lite)
    assert seen is not None
    assert seen.content[:4] == lite[-12:-8]
    assert nat.counts()["exhausted"] == 1


def test_a_datagram_without_checksum_keeps_none(kernel: RealKernel) -> None:
    nat = Nat(kernel, 4, masquerade(V4))
    nat.out(udp(V4.second, 5001, V4.far, 53))
    sent = packet(V4.inside, V4.far, f.UDP, f.udp(5001, 53, b"x"), unsummed=True)
    seen = nat.out(sent)
    assert seen is not None
    assert seen.sport != 5001
    assert seen.content[6:8] == b"\0\0"


def test_most_flows(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, most_flows=2, filtering=ANY))
    for port in (1, 2):
        assert source(nat, udp(at.inside, 5001, at.far, port)) == (at.outside, 5001)
    assert source(nat, udp(at.inside, 5001, at.far, 3)) == DROPPED
    assert dest(nat, udp(at.far, 4, at.outside, 5001)) == DROPPED
    assert source(nat, udp(at.inside, 5001, at.far, 1)) == (at.outside, 5001)
    assert nat.counts()["limited"] == 2


def test_who_finds_no_room_sweeps(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at, most_flows=2))
    for port in (1, 2):
        nat.out(udp(at.inside, 5001, at.far, port))
    nat.age(400)
    assert source(nat, udp(at.inside, 5001, at.far, 3)) == DROPPED
    assert source(nat, udp(at.inside, 5001, at.far, 3)) == (at.outside, 5001)
    assert {int(key["dest_port"]) for key, _ in nat.rows("flows") if key["way"] == 0} == {3}


def test_lifetimes_and_their_refresh(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(udp(at.inside, 5001, at.far, 53))
    nat.out(tcp(at.inside, 5001, at.far, 80))
    nat.age(200)
    assert source(nat, udp(at.inside, 5001, at.far, 53)) == (at.outside, 5001)
    assert dest(nat, tcp(at.far, 80, at.outside, 5001, f.SYN | f.ACK)) == (at.inside, 5001)
    nat.age(290)
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.inside, 5001)
    nat.age(6800)
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.outside, 5001)
    assert source(nat, tcp(at.inside, 5001, at.far, 80, f.ACK)) == (at.outside, 5001)
    nat.out(tcp(at.inside, 5001, at.far, 80, f.FIN | f.ACK))
    nat.come(tcp(at.far, 80, at.outside, 5001, f.FIN | f.ACK))
    nat.age(250)
    assert dest(nat, tcp(at.far, 80, at.outside, 5001, f.ACK)) == (at.outside, 5001)


def test_a_reset_counts_until_the_inside_goes_on(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(tcp(at.inside, 5001, at.far, 80))
    nat.come(tcp(at.far, 80, at.outside, 5001, f.SYN | f.ACK))
    nat.come(tcp(at.far, 80, at.outside, 5001, f.RST))
    nat.out(tcp(at.inside, 5001, at.far, 80, f.ACK))
    nat.age(2)
    nat.out(tcp(at.inside, 5001, at.far, 80, f.ACK))
    nat.age(1000)
    assert dest(nat, tcp(at.far, 80, at.outside, 5001, f.ACK)) == (at.inside, 5001)


@pytest.mark.parametrize("lost", [abi.NatWay.NAT_OUT, abi.NatWay.NAT_IN])
def test_each_entry_restores_the_other(kernel: RealKernel, at: Place, lost: abi.NatWay) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(udp(at.second, 5001, at.far, 53))
    _, port = source(nat, udp(at.inside, 5001, at.far, 53))
    nat.lose("flows", lambda key: key["way"] == lost)
    nat.age(2)
    if lost == abi.NatWay.NAT_OUT:
        assert dest(nat, udp(at.far, 53, at.outside, port)) == (at.inside, 5001)
    assert source(nat, udp(at.inside, 5001, at.far, 53)) == (at.outside, port)
    assert dest(nat, udp(at.far, 53, at.outside, port)) == (at.inside, 5001)


# Declared ports


def test_a_declared_port(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, declared(at, 80, (at.inside, 8080)))
    assert dest(nat, tcp(at.far, 4000, at.outside, 80)) == (at.inside, 8080)
    assert source(nat, tcp(at.inside, 8080, at.far, 4000, f.SYN | f.ACK)) == (at.outside, 80)
    assert dest(nat, tcp(at.far, 4000, at.outside, 81)) == (at.outside, 81)
    assert dest(nat, udp(at.far, 4000, at.outside, 80)) == (at.outside, 80)


def test_a_declared_port_is_given_to_nobody(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, declared(at, 8080, (at.inside, 8080)))
    _, port = source(nat, tcp(at.second, 8080, at.far, 80))
    assert port != 8080


def test_a_declared_port_that_goes_ends_its_flows(kernel: RealKernel, at: Place) -> None:
    rules = declared(at, 80, (at.inside, 8080))
    nat = Nat(kernel, at.family, rules)
    nat.come(tcp(at.far, 4000, at.outside, 80))
    nat.put(rules, generation=2)
    assert dest(nat, tcp(at.far, 4000, at.outside, 80, f.ACK)) == (at.inside, 8080)
    nat.put(replace(rules, ports=[]), generation=3)
    assert dest(nat, tcp(at.far, 4000, at.outside, 80, f.ACK)) == (at.outside, 80)


def test_backends(kernel: RealKernel, at: Place) -> None:
    rules = declared(at, 80, (at.inside, 0), flags=2)
    ends = [(at.inside, 8001), (at.second, 8002)]
    rules.backends = [[ends[n % 2] for n in range(1021)]]
    rules.members = [(0, *end) for end in ends]
    nat = Nat(kernel, at.family, rules)
    clients = {port: dest(nat, tcp(at.far, port, at.outside, 80)) for port in range(2000, 2064)}
    assert set(clients.values()) == set(ends)
    least = min(list(clients.values()).count(end) for end in ends)
    assert least > 15
    drained = replace(rules, backends=[[ends[0]] * 1021])
    nat.put(drained, generation=2)
    for port, end in clients.items():
        assert dest(nat, tcp(at.far, port, at.outside, 80, f.ACK)) == end
    assert dest(nat, tcp(at.far, 3000, at.outside, 80)) == ends[0]
    nat.put(replace(drained, members=rules.members[:1]), generation=3)
    for port in clients:
        assert dest(nat, tcp(at.far, port, at.outside, 80, f.ACK)) == ends[0]


@pytest.mark.parametrize("flags", [0, 1])
def test_one_address_for_another(kernel: RealKernel, at: Place, flags: int) -> None:
    nat = Nat(kernel, at.family, full(at, flags))
    assert dest(nat, tcp(at.far, 4000, at.outside, 22)) == (at.inside, 22)
    assert source(nat, tcp(at.inside, 22, at.far, 4000, f.ACK)) == (at.outside, 22)
    assert source(nat, udp(at.inside, 9, at.other, 53)) == (at.outside, 9)
    assert dest(nat, ping(at.far, at.outside, 3)) == (at.inside, 3)
    assert dest(nat, packet(at.far, at.outside, 47, b"12345678")) == (at.inside, 0)
    assert bool(nat.rows("flows")) == (not flags)


def test_neighbours_are_left_alone(kernel: RealKernel) -> None:
    nat = Nat(kernel, 6, full(V6))
    asking = packet(V6.far, V6.outside, f.ICMPV6, f.icmp(135, 0, b"\0" * 16))
    assert dest(nat, asking)[0] == V6.outside


def test_a_declared_ports_owner_leaves_by_it(kernel: RealKernel, at: Place) -> None:
    rules = declared(at, 80, (at.inside, 8080))
    value = {"address": words(at.outside), "port": 80}
    rules.ports.append(("out", at.inside, 8080, f.TCP, value))
    nat = Nat(kernel, at.family, rules)
    assert source(nat, tcp(at.inside, 8080, at.far, 9)) == (at.outside, 80)
    assert dest(nat, tcp(at.far, 9, at.outside, 80, f.ACK)) == (at.inside, 8080)


# The router itself


def test_the_router_keeps_its_ports(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    assert source(nat, udp(at.outside, 5001, at.far, 53), own=True) == (at.outside, 5001)
    _, port = source(nat, udp(at.inside, 5001, at.far, 53))
    assert port != 5001
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.outside, 5001)
    assert not [k for k, _ in nat.rows("flows") if k["dest_port"] == 5001]


def test_the_router_gives_way_where_the_tuple_is_taken(kernel: RealKernel, at: Place) -> None:
    nat = Nat(kernel, at.family, masquerade(at))
    nat.out(udp(at.inside, 5001, at.far, 53))
    assert source(nat, udp(at.outside, 5001, at.other, 53), own=True) == (at.outside, 5001)
    _, port = source(nat, udp(at.outside, 5001, at.far, 53), own=True)
    assert port != 5001
    assert source(nat, udp(at.outside, 5001, at.far, 53), own=True) == (at.outside, port)
    assert dest(nat, udp(at.far, 53, at.outside, port)) == (at.outside, 5001)
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.inside, 5001)


def test_new_rules_ask_about_each_flow_once(kernel: RealKernel, at: Place) -> None:
    rules = masquerade(at)
    nat = Nat(kernel, at.family, rules)
    nat.out(udp(at.inside, 5001, at.far, 53))
    nat.put(rules, generation=2)
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.inside, 5001)
    moved = masquerade(replace(at, outside=at.other))
    nat.put(moved, generation=3)
    assert dest(nat, udp(at.far, 53, at.outside, 5001)) == (at.outside, 5001)
    assert source(nat, udp(at.inside, 5001, at.far, 53)) == (at.other, 5001)
