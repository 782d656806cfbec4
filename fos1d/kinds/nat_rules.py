"""Translations as they are on this router: each at an interface that is there, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from fos1d.kinds.addresses import Address, Network
from fos1d.kinds.admission import Accepted
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.translation import Translation
from fos1d.model.facts import Facts, Interface
from fos1d.model.identity import Origin, ResourceId

ANY: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
LOOPBACK = 772


@dataclass(frozen=True, slots=True)
class NatRule:
    """A translation at one outside interface. `number` stands for both, and is never 0."""

    policy: ResourceId
    origin: Origin
    priority: int
    number: int
    interface: str
    index: int
    addresses: tuple[Address, ...]
    translation: Translation

    @property
    def is_stateless(self) -> bool:
        """Whether each packet is rewritten for itself."""
        return not self.translation.enable_tracking or self.translation.type == "npt66"

    def external(self, version: int) -> Address | None:
        """Return the outside address of an IP version, if there is one now."""
        given, kind = self.translation.external_ip, self.translation.type
        if kind == "npt66":
            return None
        if given is not None:
            return given if given.version == version else None
        if kind == "nat64" and version == 6:
            return None
        return next((found for found in self.addresses if found.version == version), None)

    def sources(self, version: int) -> tuple[Network, ...]:
        """Return the networks of an IP version whose addresses it translates as sources, whether
        there is an outside address for them or not: then they are dropped."""
        given = tuple(n for n in self.translation.source_addresses if n.version == version)
        match self.translation.type:
            case "dnat":
                return ()
            case "full":
                inside = self.inside()
                return (ip_network(inside),) if inside.version == version else ()
            case "npt66":
                return given
            case "nat64":
                return given or (ANY[6],) if version == 6 else ()
            case "snat" | "masquerade":
                if self.translation.source_addresses:
                    return given
                external = self.translation.external_ip
                is_about = external is None or external.version == version
                return (ANY[version],) if is_about else ()

    def excluded(self, version: int) -> tuple[Network, ...]:
        """Return the networks of an IP version whose addresses it leaves to others."""
        return tuple(n for n in self.translation.exclude_addresses if n.version == version)

    def inside(self) -> Address:
        """Return the one address inside: of type full."""
        for network in self.translation.source_addresses:
            return network.network_address
        servers = (s for m in self.translation.port_mappings for _, s in m.servers())
        return next(servers)

    @property
    def takes_any(self) -> bool:
        """Whether it is content with an address of either IP version."""
        nat = self.translation
        return nat.type == "masquerade" and not nat.source_addresses

    def lacks(self) -> Iterator[int]:
        """Yield the IP versions that it would need an outside address of."""
        match self.translation.type:
            case "masquerade":
                yield from (v for v in (4, 6) if self.sources(v) and self.external(v) is None)
            case "nat64":
                yield from () if self.external(4) else (4,)
            case "snat" | "dnat" | "full" | "npt66":
                return


def translation_of(accepted: Accepted) -> tuple[Translation, int] | None:
    """Return a resource's translation and its priority, None if it has none."""
    match accepted.declaration.resource:
        case EBPFNATPolicy(spec=spec):
            return spec, spec.priority
        case EBPFNetworkPolicy(spec=policy) if policy.nat is not None:
            return policy.nat, policy.priority
        case _:
            return None


def nat_rules(policies: Iterable[Accepted], facts: Facts) -> list[NatRule]:
    """Return the translations of all policies at the interfaces that are there, first one first."""
    found = [
        (accepted, interface, *translation)
        for accepted in policies
        if (translation := translation_of(accepted)) is not None
        for interface in outside_interfaces(accepted, facts)
    ]
    numbers = _numbers([(accepted.id, interface.name) for accepted, interface, _, _ in found])
    rules = [
        NatRule(
            accepted.id,
            accepted.declaration.origin,
            priority,
            numbers[accepted.id, interface.name],
            interface.name,
            interface.index,
            interface.addresses,
            translation,
        )
        for accepted, interface, translation, priority in found
    ]
    return sorted(rules, key=_rank)


def _rank(rule: NatRule) -> tuple[int, str, str, str, str]:
    who = rule.policy
    return rule.priority, who.namespace, who.name, who.kind, rule.interface


def _numbers(places: Sequence[tuple[ResourceId, str]]) -> dict[tuple[ResourceId, str], int]:
    """Return a number for each policy at an interface, the same after every start."""
    found: dict[tuple[ResourceId, str], int] = {}
    taken = {0}
    for policy, interface in sorted(places):
        salt = 0
        while (number := _digest(f"{policy} {interface} {salt}")) in taken:
            salt += 1
        taken.add(number)
        found[policy, interface] = number
    return found


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def outside_interfaces(accepted: Accepted, facts: Facts) -> list[Interface]:
    """Return the interfaces at which a policy translates, by name: the one that it names; those
    that its selector names; those that have its outside address."""
    resource = accepted.declaration.resource
    match resource:
        case EBPFNATPolicy(spec=spec):
            return _named(spec.interface, facts)
        case EBPFNetworkPolicy(spec=policy) if policy.nat is not None:
            if policy.nat.interface is not None:
                return _named(policy.nat.interface, facts)
            if policy.selector and policy.selector.interfaces:
                globs = policy.selector.interfaces
                names = sorted({i.name for glob in globs for i in facts.matching(glob)})
                return [facts.interfaces[name] for name in names if not _is_loopback(name, facts)]
            external = policy.nat.external_ip
            return [i for i in facts.matching("*") if external in i.addresses]
        case _:
            return []


def _named(name: str, facts: Facts) -> list[Interface]:
    return [facts.interfaces[name]] if name in facts.interfaces else []


def _is_loopback(name: str, facts: Facts) -> bool:
    return facts.interfaces[name].link_type == LOOPBACK
