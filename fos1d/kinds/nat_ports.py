"""Declared ports: what leads inside from an outside endpoint, and the mirrors of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fos1d import abi
from fos1d.abi import NatPortFlag, NatSize, NatWay
from fos1d.compile.balance import NOBODY, shares
from fos1d.kinds.addresses import Address, Network
from fos1d.kinds.nat_rows import Records, Rows, records, word, words
from fos1d.kinds.nat_rules import NatRule
from fos1d.kinds.translation import Backend, PortMapping

PROTOCOLS = {"tcp": 6, "udp": 17}
PORT = {4: abi.NAT_PORT4, 6: abi.NAT_PORT6}
PORT_KEY = {4: abi.NAT_PORT4_KEY, 6: abi.NAT_PORT6_KEY}
BACKEND = {4: abi.NAT_BACKEND4, 6: abi.NAT_BACKEND6}
MEMBER = {4: abi.NAT_MEMBER4, 6: abi.NAT_MEMBER6}
MEMBER_VALUE = np.dtype("<u4")
SLOTS = int(NatSize.NAT_SLOTS)
MOST_TABLES = 4096

Owners = Mapping[Network, int]


@dataclass(slots=True)
class Ports:
    """The declared ports of all rules, in the making.

    `owners` say whose the sources are at each interface, by IP version; `backends` are the slots
    of balanced ports, one table after another, by IP version. `crowded` are rules for whose
    balanced ports there was no room.
    """

    rows: Rows
    owners: Mapping[tuple[str, int], Owners]
    rules: Mapping[int, NatRule]
    backends: dict[int, list[Records]] = field(default_factory=lambda: {4: [], 6: []})
    wild: set[tuple[Address, str]] = field(default_factory=set)
    crowded: list[NatRule] = field(default_factory=list)

    def add(self, rule: NatRule) -> None:
        """Add what a rule declares; rules come in the order of who goes first."""
        kind = rule.translation.type
        for version in (4, 6):
            external = rule.external(version)
            if external is None or kind not in ("snat", "dnat", "full"):
                continue
            for mapping in rule.translation.port_mappings:
                self._add_mapping(rule, external, mapping)
            if kind == "full" or (kind == "snat" and rule.is_stateless):
                self._add_whole(rule, external)

    # One address for another

    def _add_whole(self, rule: NatRule, external: Address) -> None:
        inside = rule.sources(external.version)[0].network_address
        self._put(rule, NatWay.NAT_IN, external, 0, 0, inside, 0)
        self.wild.add((external, rule.interface))
        if self._owner(rule.interface, inside) == rule.number:
            self._put(rule, NatWay.NAT_OUT, inside, 0, 0, external, 0)

    def _owner(self, interface: str, address: Address) -> int:
        """Return the number of the policy that translates an address as a source, 0 for none."""
        owners = self.owners.get((interface, address.version), {})
        around = (network for network in owners if address in network)
        nearest = max(around, key=lambda network: network.prefixlen, default=None)
        return owners[nearest] if nearest is not None else 0

    # Ports

    def _add_mapping(self, rule: NatRule, external: Address, mapping: PortMapping) -> None:
        if (external, rule.interface) in self.wild:
            return
        if mapping.backends is not None:
            self._add_balanced(rule, external, mapping, mapping.backends)
            return
        assert mapping.internal_ip is not None
        protocol = PROTOCOLS[mapping.protocol]
        outer, count = mapping.external_port.first, mapping.external_port.count
        inner = (mapping.internal_port or mapping.external_port).first
        self._put(rule, NatWay.NAT_IN, external, outer, protocol, mapping.internal_ip, inner, count)
        if self._is_mirrored(rule, external, mapping.internal_ip):
            inside = mapping.internal_ip
            self._put(rule, NatWay.NAT_OUT, inside, inner, protocol, external, outer, count)

    def _is_mirrored(self, rule: NatRule, external: Address, inside: Address) -> bool:
        """Whether what the server sends by itself leaves by its declared port: without tracking it
        has to; else if it leaves by the same address anyway."""
        if rule.is_stateless or rule.translation.type == "full":
            return True
        owner = self.rules.get(self._owner(rule.interface, inside))
        return owner is not None and owner.external(external.version) == external

    def _put(
        self,
        rule: NatRule,
        way: NatWay,
        address: Address,
        port: int,
        protocol: int,
        becomes: Address,
        becomes_port: int,
        count: int = 1,
    ) -> None:
        """Add the entries of `count` ports that follow each other."""
        version, steps = address.version, np.arange(count)
        keys = records(
            PORT_KEY[version],
            count,
            interface=rule.index,
            address=word(address),
            port=port + steps,
            protocol=protocol,
            way=way,
        )
        values = records(
            PORT[version],
            count,
            policy=rule.number,
            flags=NatPortFlag.NAT_STATELESS if rule.is_stateless else 0,
            address=word(becomes),
            port=becomes_port + steps,
        )
        self.rows.add(f"nat_ports{version}", keys, values)

    # Balanced ports

    def _add_balanced(
        self, rule: NatRule, external: Address, mapping: PortMapping, backends: Sequence[Backend]
    ) -> None:
        version = external.version
        for offset in range(mapping.external_port.count):
            key = records(
                PORT_KEY[version],
                interface=rule.index,
                address=word(external),
                port=mapping.external_port.first + offset,
                protocol=PROTOCOLS[mapping.protocol],
                way=NatWay.NAT_IN,
            )
            if self.rows.has(f"nat_ports{version}", key):
                continue
            if len(self.backends[version]) == MOST_TABLES:
                self.crowded.append(rule)
                return
            first = mapping.external_port.first
            ends = [(b.internal_ip, (b.internal_port or first) + offset) for b in backends]
            table = self._add_table(version, ends, [backend.weight for backend in backends])
            flags = NatPortFlag.NAT_BALANCED
            value = records(PORT[version], policy=rule.number, flags=flags, table=table)
            self.rows.add(f"nat_ports{version}", key, value)

    def _add_table(
        self, version: int, ends: Sequence[tuple[Address, int]], weights: Sequence[int]
    ) -> int:
        """Add the slots and members of a balanced port; return the number of its table."""
        table, ports = len(self.backends[version]), [port for _, port in ends]
        addresses = words([address for address, _ in ends])
        names = [b"%b %d" % (address.packed, port) for address, port in ends]
        chosen = shares(list(zip(names, weights, strict=True)), SLOTS)
        each = records(BACKEND[version], len(ends), address=addresses, port=ports)
        slots = each[chosen]
        slots[chosen == NOBODY] = np.zeros((), slots.dtype)
        self.backends[version].append(slots)
        members = records(MEMBER[version], len(ends), table=table, address=addresses, port=ports)
        one = np.ones(len(ends), MEMBER_VALUE).view(np.dtype([("value", MEMBER_VALUE)]))
        self.rows.add(f"nat_members{version}", members, one)
        return table
