"""Translations in order -> the contents of the maps that a version of the rules has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import numpy as np

from fos1d import abi
from fos1d.abi import Lifetime, NatFiltering, NatPolicyFlag, NatWay
from fos1d.compile.first_match import Wish, first_match
from fos1d.kinds.addresses import Address, Network
from fos1d.kinds.nat_ports import BACKEND, Ports
from fos1d.kinds.nat_rows import Records, Rows, records, word, words
from fos1d.kinds.nat_rules import NatRule
from fos1d.model.objects import Table
from fos1d.model.pins import table_path
from fos1d.quantity import PortRange

SOURCE = {4: abi.NAT_SOURCE4, 6: abi.NAT_SOURCE6}
OUTSIDE = {4: abi.NAT_OUTSIDE4, 6: abi.NAT_OUTSIDE6}
NUMBER = np.dtype("<u4")
FIRST = (0).to_bytes(4, "little")
NS_PER_S = 10**9
# Where NAT64 looks: at no interface, for it acts before packets are routed.
NOWHERE = ""
FILTERING = {
    "endpoint-independent": NatFiltering.NAT_FILTER_NONE,
    "address": NatFiltering.NAT_FILTER_ADDRESS,
    "address-and-port": NatFiltering.NAT_FILTER_PORT,
}
MAPS_OF_RULES = (
    "nat_policies",
    "nat_version",
    "nat_prefixes6",
    *(
        f"{name}{version}"
        for name in ("nat_sources", "nat_ports", "nat_members", "nat_outsides")
        for version in (4, 6)
    ),
)
Owners = dict[tuple[str, int], dict[Network, int]]


@dataclass(frozen=True, slots=True, eq=False)
class NatTables:
    """The contents of the maps of one version. `digest` stands for all of them, and is never 0; by
    it a flow is known that has yet to be asked about.

    `crowded` are the rules whose balanced ports are too many.
    """

    rules: tuple[NatRule, ...]
    packed: Mapping[str, bytes]
    backends: Mapping[str, Table]
    digest: int
    crowded: tuple[NatRule, ...] = ()


@dataclass(slots=True)
class NatStore:
    """The newest tables, remembered from pass to pass."""

    newest: NatTables | None = field(default=None, repr=False)


def nat_tables(rules: Sequence[NatRule], store: NatStore) -> NatTables:
    """Return the tables of the rules, made unless they were before."""
    known = store.newest
    if known is None or known.rules != tuple(rules):
        known = store.newest = _made(rules)
    return known


def _made(rules: Sequence[NatRule]) -> NatTables:
    rows, owners = Rows(), owners_of(rules)
    for rule in rules:
        rows.add("nat_policies", _number(rule.number), _policy(rule))
        _add_outsides(rows, rule)
        if rule.translation.type == "npt66":
            _add_prefixes(rows, rule)
    _add_sources(rows, rules, owners)
    ports = Ports(rows, owners, {rule.number: rule for rule in rules})
    for rule in rules:
        ports.add(rule)
    found = rows.packed()
    packed = {name: found.get(name, b"") for name in MAPS_OF_RULES}
    backends = {f"nat_backends{v}": _backends(v, ports.backends[v]) for v in (4, 6)}
    content = [*sorted(packed.items()), *(table.path for table in backends.values())]
    digest = int(hashlib.blake2b(repr(content).encode(), digest_size=4).hexdigest(), 16) | 1
    packed["nat_version"] = FIRST + digest.to_bytes(4, "little")
    return NatTables(
        tuple(rules),
        packed,
        backends,
        digest,
        tuple(ports.crowded),
    )


def _backends(version: int, tables: Sequence[Records]) -> Table:
    """Return the slots of all balanced ports as one frozen table."""
    nothing = np.zeros(1, np.dtype(BACKEND[version]))
    data = memoryview(b"".join(table.tobytes() for table in tables) or nothing.tobytes())
    digest, name = hashlib.blake2b(data, digest_size=8).hexdigest(), f"nat_backends{version}"
    return Table(table_path(digest, name), nothing.itemsize, content=_constant(data))


def _constant(data: memoryview) -> Callable[[], memoryview]:
    return lambda: data


# Sources


def owners_of(rules: Iterable[NatRule]) -> Owners:
    """Return whose the sources are, by interface and IP version: longest prefix -> number."""
    wishes: dict[tuple[str, int], list[Wish]] = {}
    for rule in rules:
        where = NOWHERE if rule.translation.type == "nat64" else rule.interface
        for version in (4, 6):
            taken = rule.sources(version)
            if taken and rule.translation.type != "npt66":
                wish = Wish(rule.number, taken, rule.excluded(version))
                wishes.setdefault((where, version), []).append(wish)
    return {place: first_match(asked) for place, asked in wishes.items()}


def _add_sources(rows: Rows, rules: Sequence[NatRule], owners: Owners) -> None:
    indexes = {rule.interface: rule.index for rule in rules} | {NOWHERE: 0}
    for (interface, version), found in sorted(owners.items()):
        if not found:
            continue
        keys = records(
            SOURCE[version],
            len(found),
            prefix_bits=[32 + network.prefixlen for network in found],
            interface=indexes[interface],
            address=words([network.network_address for network in found]),
        )
        rows.add(f"nat_sources{version}", keys, _numbers(list(found.values())))


def _numbers(values: Sequence[int]) -> Records:
    return np.array(values, NUMBER).view(np.dtype([("number", NUMBER)]))


def _number(value: int) -> Records:
    return _numbers([value])


# Policies


def _policy(rule: NatRule) -> Records:
    nat, times = rule.translation, rule.translation.timeouts
    ports = nat.port_range or PortRange(0, 0)
    outside: dict[str, Any] = {
        f"external{version}": word(external)
        for version in (4, 6)
        if (external := rule.external(version)) is not None
    }
    if nat.type == "nat64":
        prefix = nat.prefix64
        outside |= {"prefix64": word(prefix.network_address)}
        outside |= {"prefix64_bytes": prefix.prefixlen // 8}
    return records(
        abi.NAT_POLICY,
        interface=rule.index,
        flags=NatPolicyFlag.NAT_HAIRPIN if nat.hairpin else 0,
        filtering=FILTERING[nat.filtering],
        most_flows=nat.max_connections or 0,
        first_port=ports.first,
        last_port=ports.last,
        udp_s=_seconds(times.udp),
        tcp_established_s=_seconds(times.tcp_established),
        tcp_transitory_s=_seconds(times.tcp_transitory),
        icmp_s=_seconds(times.icmp),
        other_s=int(Lifetime.OTHER_S),
        **outside,
    )


def _seconds(time_ns: int) -> int:
    """Return a time in whole seconds, at least 1, and no more than fits."""
    return min(max(-(-time_ns // NS_PER_S), 1), (1 << 32) - 1)


def _add_outsides(rows: Rows, rule: NatRule) -> None:
    for version in (4, 6):
        if (external := rule.external(version)) is not None:
            key = records(OUTSIDE[version], address=word(external))
            rows.add(f"nat_outsides{version}", key, _number(rule.number))


# Prefixes (RFC 6296)


def _add_prefixes(rows: Rows, rule: NatRule) -> None:
    inside, outside = rule.sources(6)[0], rule.translation.external_ip
    assert isinstance(inside, IPv6Network)
    assert isinstance(outside, IPv6Address)
    outer = IPv6Network((outside, inside.prefixlen))
    for network in rule.excluded(6):
        _add_prefix(rows, rule, NatWay.NAT_OUT, network, network)
    _add_prefix(rows, rule, NatWay.NAT_OUT, inside, outer)
    _add_prefix(rows, rule, NatWay.NAT_IN, outer, inside)


def _add_prefix(rows: Rows, rule: NatRule, way: NatWay, old: Network, new: Network) -> None:
    key = records(
        abi.NAT_PREFIX_KEY,
        prefix_bits=64 + old.prefixlen,
        interface=rule.index,
        way=way,
        address=word(old.network_address),
    )
    value = records(
        abi.NAT_PREFIX,
        prefix=word(new.network_address),
        bits=new.prefixlen,
        policy=rule.number,
        adjustment=adjustment(old.network_address, new.network_address),
    )
    rows.add("nat_prefixes6", key, value)


def adjustment(old: Address, new: Address) -> int:
    """Return what, added to a word of the rest in ones' complement, keeps the checksum."""
    difference = _sum16(old) + (_sum16(new) ^ 0xFFFF)
    folded = (difference & 0xFFFF) + (difference >> 16)
    return 0 if folded == 0xFFFF else folded


def _sum16(address: Address) -> int:
    total = int(np.frombuffer(address.packed, ">u2").astype(np.uint32).sum())
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
