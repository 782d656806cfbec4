"""Translations as maps and programs: whose a source is, where a port leads, what is missing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d import abi
from fos1d.abi import NatFiltering, NatPortFlag, NatWay
from fos1d.kinds.assemble import Assembled
from fos1d.kinds.nat_tables import NatStore, adjustment
from fos1d.model.condition import ConditionType
from fos1d.model.facts import Rival
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Map, Program, Table
from tests.translated import (
    BALANCED,
    DNAT,
    LAN,
    MASQUERADE,
    OUT4,
    OUT6,
    WAN,
    assembled,
    attached,
    held,
    nat,
    note,
    ports,
    read,
    sources,
)


def test_a_masquerade_has_the_first_address_of_its_interface() -> None:
    made = assembled(MASQUERADE)
    assert sources(made) == {"3:10.0.0.0/8": "home"}
    ((number, record),) = held(made, "nat_policies").items()
    policy = read(abi.NAT_POLICY, record)[0]
    assert made.nats.rules[int.from_bytes(number, "little")].policy.name == "home"
    assert ip_address(int(policy["external4"])) == OUT4
    assert (policy["udp_s"], policy["tcp_established_s"], policy["icmp_s"]) == (300, 7440, 60)
    assert policy["filtering"] == NatFiltering.NAT_FILTER_PORT
    assert note(made, "home") is None


def test_programs_stand_where_packets_pass() -> None:
    ways = {
        ("wan0", "tc-ingress", 4, "fos1_tc_nat4_in"),
        ("wan0", "tc-egress", 4, "fos1_tc_nat4_out"),
    }
    turns = {
        ("lan0", "tc-ingress", 4, "fos1_tc_nat4_turn_in"),
        ("lan0", "tc-egress", 4, "fos1_tc_nat4_turn_out"),
    }
    assert attached(assembled(MASQUERADE)) == ways | turns
    straight = MASQUERADE.replace("wan0,", "wan0, hairpin: false,")
    assert attached(assembled(straight)) == ways


def test_the_first_policy_has_a_source_and_leaves_the_excluded_to_the_next() -> None:
    first = "{type: snat, interface: wan0, priority: 1, externalIP: 203.0.113.9,"
    first += " sourceAddresses: [10.1.0.0/16], excludeAddresses: [10.1.2.0/24]}"
    made = assembled(MASQUERADE, nat("servers", first))
    assert sources(made) == {
        "3:10.0.0.0/8": "home",
        "3:10.1.0.0/16": "servers",
        "3:10.1.2.0/24": "home",
    }


def test_declared_ports_and_mirrors() -> None:
    mappings = """
    - {protocol: tcp, externalPort: 80, internalIP: 10.0.0.10, internalPort: 8080}
    - {protocol: udp, externalPort: "7000-7002", internalIP: 10.0.0.11, internalPort: 9000}
"""
    alone = assembled(nat("web", DNAT + mappings))
    inward = {
        "6 203.0.113.1:80": "10.0.0.10:8080",
        "17 203.0.113.1:7000": "10.0.0.11:9000",
        "17 203.0.113.1:7001": "10.0.0.11:9001",
        "17 203.0.113.1:7002": "10.0.0.11:9002",
    }
    assert ports(alone, NatWay.NAT_IN) == inward
    assert ports(alone, NatWay.NAT_OUT) == {}
    both = assembled(nat("web", DNAT + mappings), MASQUERADE)
    assert ports(both, NatWay.NAT_OUT)["6 10.0.0.10:8080"] == "203.0.113.1:80"
    elsewhere = MASQUERADE.replace("masquerade,", "snat, externalIP: 203.0.113.9,")
    assert ports(assembled(nat("web", DNAT + mappings), elsewhere), NatWay.NAT_OUT) == {}


def test_full_is_one_address_for_another_unless_somebody_comes_first() -> None:
    full = "{type: full, interface: wan0, externalIP: 203.0.113.1, sourceAddresses: [10.0.0.5]}"
    made = assembled(nat("dmz", full))
    assert ports(made, NatWay.NAT_IN) == {"0 203.0.113.1:0": "10.0.0.5:0"}
    assert ports(made, NatWay.NAT_OUT) == {"0 10.0.0.5:0": "203.0.113.1:0"}
    assert sources(made) == {"3:10.0.0.5/32": "dmz"}
    first = MASQUERADE.replace("wan0,", "wan0, priority: 1,")
    assert ports(assembled(nat("dmz", full), first), NatWay.NAT_OUT) == {}


def test_without_tracking_ports_lead_both_ways() -> None:
    mapping = "    - {protocol: tcp, externalPort: 80, internalIP: 10.0.0.10}\n"
    made = assembled(nat("web", DNAT + mapping + "  enableTracking: false"))
    assert ports(made, NatWay.NAT_OUT) == {"6 10.0.0.10:80": "203.0.113.1:80"}
    flags = {int(read(abi.NAT_PORT4, v)["flags"][0]) for v in held(made, "nat_ports4").values()}
    assert flags == {NatPortFlag.NAT_STATELESS}
    programs = [p for p in made.lowered.objects.values() if isinstance(p, Program)]
    assert {dict(p.constants)["nat_has_stateless"] for p in programs} == {1}


def test_a_drained_backend_keeps_its_flows_and_gets_no_new_ones() -> None:
    made = assembled(nat("web", BALANCED))
    table = next(
        t
        for t in made.lowered.objects.values()
        if isinstance(t, Table) and "nat_backends4" in t.path
    )
    assert table.content is not None
    slots = np.frombuffer(table.content(), np.dtype(abi.NAT_BACKEND4))
    assert {(str(ip_address(int(s["address"]))), int(s["port"])) for s in slots} == {
        ("10.0.0.11", 443)
    }
    members = [read(abi.NAT_MEMBER4, key) for key in held(made, "nat_members4")]
    assert {int(member["port"][0]) for member in members} == {443, 8443}


def test_without_an_address_nothing_leaves_and_the_status_says_so() -> None:
    made = assembled(MASQUERADE, interfaces=(replace(WAN, addresses=(OUT6,)), LAN))
    said = note(made, "home")
    assert said is not None
    assert said.reason == "NoAddress"
    assert sources(made) == {"3:10.0.0.0/8": "home"}
    assert read(abi.NAT_POLICY, *held(made, "nat_policies").values())["external4"][0] == 0


def test_state_stays_when_the_interface_goes_and_numbers_when_it_returns() -> None:
    def state(made: Assembled) -> set[str]:
        maps = (found for found in made.lowered.objects.values() if isinstance(found, Map))
        return {found.path for found in maps if found.family == f"state/_nat/{found.label[5:]}"}

    there, gone = assembled(MASQUERADE), assembled(MASQUERADE, interfaces=(LAN,))
    back = assembled(MASQUERADE, interfaces=(replace(WAN, index=9), LAN))
    assert {path.split("/")[2] for path in state(there)} >= {"nat_flows4", "nat_ends4", "nat_stats"}
    assert state(there) == state(gone)
    missing = note(gone, "home")
    assert missing is not None
    assert missing.reason == "InterfaceMissing"
    assert there.nats.rules.keys() == back.nats.rules.keys()


def test_a_changed_address_is_entries_and_no_program() -> None:
    def programs(made: Assembled) -> set[str]:
        return {p.path for p in made.lowered.objects.values() if isinstance(p, Program)}

    other = replace(WAN, addresses=(IPv4Address("203.0.113.77"),), index=8)
    before, after = assembled(MASQUERADE), assembled(MASQUERADE, interfaces=(other, LAN))
    assert programs(before) == programs(after)
    assert held(before, "nat_version") != held(after, "nat_version")
    assert before.nats.digest != after.nats.digest
    changed = MASQUERADE.replace("10.0.0.0/8", "10.0.0.0/9")
    assert not programs(before) & programs(assembled(changed))


def test_any_source_is_of_both_versions_whatever_addresses_there_are() -> None:
    anyone = nat("home", "{type: masquerade, interface: wan0}")
    for addresses in ((OUT4, OUT6), (OUT4,), (OUT6,)):
        made = assembled(anyone, interfaces=(replace(WAN, addresses=addresses), LAN))
        assert held(made, "nat_sources4")
        assert held(made, "nat_sources6")
        assert note(made, "home") is None


def test_any_source_is_content_with_one_address_and_says_what_is_dropped() -> None:
    anyone = nat("home", "{type: masquerade, interface: wan0}")
    made = assembled(anyone, interfaces=(replace(WAN, addresses=(OUT6,)), LAN))
    assert note(made, "home") is None
    (remark,) = made.lowered.remarks[ResourceId("EBPFNATPolicy", "default", "home")]
    assert "no global IPv4 address" in remark
    none = note(assembled(anyone, interfaces=(replace(WAN, addresses=()), LAN)), "home")
    assert none is not None
    assert none.reason == "NoAddress"


def test_what_stands_beside_it_is_said() -> None:
    rivals = (Rival("ip nat post", "wan0"), Rival("ip nat other", "lan0"))
    made = assembled(MASQUERADE, rivals=rivals, forwards={4: False, 6: True})
    about = ResourceId("EBPFNATPolicy", "default", "home")
    (warning,) = made.lowered.warnings[about]
    assert (warning.type, warning.reason) == (ConditionType.CONFLICTED, "OtherTranslation")
    assert "ip nat post" in warning.message
    assert any("ip_forward is 0" in remark for remark in made.lowered.remarks[about])


def test_a_network_policy_translates_at_the_interfaces_of_its_selector() -> None:
    spec = "{policyType: nat, selector: {interfaces: ['wan*']}, nat: {type: masquerade}}"
    made = assembled(nat("home", spec, "EBPFNetworkPolicy"))
    assert sources(made) == {"3:0.0.0.0/0": "home"}


def test_tables_are_made_once() -> None:
    store = NatStore()
    assembled(MASQUERADE, store=store)
    first = store.newest
    assembled(MASQUERADE, store=store)
    assert store.newest is first


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    # RFC 6296, appendix: FD01:0203:0405::/48 and 2001:0DB8:0001::/48.
    [("fd01:203:405::", "2001:db8:1::", 0xD54F), ("2001:db8:1::", "2001:db8:1::", 0)],
)
def test_the_adjustment_keeps_the_checksum(old: str, new: str, expected: int) -> None:
    assert adjustment(IPv6Address(old), IPv6Address(new)) == expected


def test_prefixes_both_ways() -> None:
    spec = "{type: npt66, interface: wan0, externalIP: '2001:db8:1::',"
    made = assembled(nat("site", spec + " sourceAddresses: ['fd01:203:405::/48']}"))
    found = {}
    for key, value in held(made, "nat_prefixes6").items():
        record, becomes = read(abi.NAT_PREFIX_KEY, key), read(abi.NAT_PREFIX, value)
        assert record["prefix_bits"][0] == 64 + 48
        found[int(record["way"][0])] = (becomes["prefix"].tobytes()[:6], becomes["adjustment"][0])
    outer, inner = IPv6Address("2001:db8:1::").packed[:6], IPv6Address("fd01:203:405::").packed[:6]
    assert found == {NatWay.NAT_OUT: (outer, 0xD54F), NatWay.NAT_IN: (inner, 0x2AB0)}


NAT64 = "{type: nat64, interface: wan0, externalIP: 203.0.113.1, prefix64: '64:ff9b::/96'}"


def test_nat64_looks_before_packets_are_routed() -> None:
    made = assembled(nat("six", NAT64))
    assert attached(made) == {
        ("wan0", "tc-ingress", 3, "fos1_tc_nat64_in"),
        ("lan0", "tc-ingress", 7, "fos1_tc_nat64_out"),
    }
    ((key, _),) = held(made, "nat_sources6").items()
    record = read(abi.NAT_SOURCE6, key)[0]
    assert (record["interface"], record["prefix_bits"]) == (0, 32)
    policy = read(abi.NAT_POLICY, *held(made, "nat_policies").values())
    assert policy["prefix64_bytes"][0] == 12
    assert policy["prefix64"].tobytes() == IPv6Address("64:ff9b::").packed
    lost = assembled(nat("six", NAT64.replace("externalIP: 203.0.113.1, ", "")), interfaces=(LAN,))
    assert note(lost, "six") is not None


NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.2.0.0/16", "0.0.0.0/0")
SPECS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NETWORKS), unique=True, max_size=3),
        st.lists(st.sampled_from(NETWORKS[1:5]), unique=True, max_size=2),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    SPECS, st.sampled_from(("10.0.0.1", "10.1.0.1", "10.1.2.1", "10.1.2.3", "10.2.3.4", "1.1.1.1"))
)
def test_a_source_belongs_to_the_first_policy_that_covers_it(
    specs: list[tuple[list[str], list[str], int]], host: str
) -> None:
    made = assembled(
        *(
            nat(
                f"p{place}",
                f"{{type: snat, interface: wan0, externalIP: 203.0.113.{place + 1},"
                f" priority: {priority}, sourceAddresses: {taken}, excludeAddresses: {left}}}",
            )
            for place, (taken, left, priority) in enumerate(specs)
        )
    )
    address = IPv4Address(host)
    ranked = sorted((priority, place) for place, (_, _, priority) in enumerate(specs))
    covering = (
        f"p{place}"
        for _, place in ranked
        if any(address in IPv4Network(n) for n in specs[place][0] or NETWORKS[-1:])
        and not any(address in IPv4Network(n) for n in specs[place][1])
    )
    entries = {IPv4Network(text.partition(":")[2]): who for text, who in sources(made).items()}
    around = [network for network in entries if address in network]
    found = entries[max(around, key=lambda n: n.prefixlen)] if around else ""
    assert found == next(covering, "")
