"""Translations that want the same packets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import islice

from fos1d.kinds.addresses import Address, Network, covers
from fos1d.kinds.check.contest import contest, disjoint, rank
from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.names import InterfaceName
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.translation import Translation
from fos1d.manifest import Loc
from fos1d.model.diagnostic import Severity
from fos1d.quantity import PortRange

ANY: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
EVERY_PORT = PortRange(1, 65535)
PORTS_OF_BUCKET = 256
MOST_BUCKETS = 8


@dataclass(frozen=True, slots=True)
class Claim:
    """Ports of an external address that a translation wants."""

    declaration: Declaration
    loc: Loc
    place: tuple[InterfaceName, Address, str]
    ports: PortRange

    @property
    def buckets(self) -> range:
        """Parts of the port space that the ports touch."""
        first, last = self.ports.first // PORTS_OF_BUCKET, self.ports.last // PORTS_OF_BUCKET
        return range(first, last + 1)

    @property
    def is_wide(self) -> bool:
        """Whether it is better compared with all others than kept in each of its parts."""
        return len(self.buckets) > MOST_BUCKETS


class _Taken:
    """The claims that came before, found by their ports."""

    def __init__(self) -> None:
        self._all: defaultdict[object, list[Claim]] = defaultdict(list)
        self._wide: defaultdict[object, list[Claim]] = defaultdict(list)
        self._near: defaultdict[tuple[object, int], list[Claim]] = defaultdict(list)

    def rivals(self, claim: Claim) -> Iterator[Claim]:
        if claim.is_wide:
            yield from self._all[claim.place]
            return
        yield from self._wide[claim.place]
        for bucket in claim.buckets:
            yield from self._near[claim.place, bucket]

    def add(self, claim: Claim) -> None:
        self._all[claim.place].append(claim)
        if claim.is_wide:
            self._wide[claim.place].append(claim)
            return
        for bucket in claim.buckets:
            self._near[claim.place, bucket].append(claim)


def nat_contention(ranked: Iterable[Declaration]) -> Iterator[Found]:
    """Yield the losers of contests for external ports and for sources."""
    ordered = [item for declaration in ranked for item in _translations(declaration)]
    yield from _ports(ordered)
    yield from _sources(ordered)


Placed = tuple[Declaration, Loc, InterfaceName, Translation]


def _translations(declaration: Declaration) -> Iterator[Placed]:
    match declaration.resource:
        case EBPFNATPolicy(spec=spec):
            yield declaration, ("spec",), spec.interface, spec
        case EBPFNetworkPolicy(spec=policy):
            if policy.nat is not None and policy.nat.interface is not None:
                yield declaration, ("spec", "nat"), policy.nat.interface, policy.nat
        case _:
            return


def _ports(translations: Iterable[Placed]) -> Iterator[Found]:
    taken = _Taken()
    for translation in translations:
        mine = list(_claims(translation))
        for claim in mine:
            rivals = taken.rivals(claim)
            found = (item for rival in rivals for item in _contest_ports(rival, claim))
            yield from islice(found, 1)
        for claim in mine:
            taken.add(claim)


def _claims(placed: Placed) -> Iterator[Claim]:
    declaration, loc, interface, nat = placed
    if nat.external_ip is None:
        return
    if nat.type == "full":
        for protocol in ("tcp", "udp"):
            place = (interface, nat.external_ip, protocol)
            yield Claim(declaration, (*loc, "externalIP"), place, EVERY_PORT)
        return
    for index, mapping in enumerate(nat.port_mappings):
        place = (interface, nat.external_ip, mapping.protocol)
        where = (*loc, "portMappings", index, "externalPort")
        yield Claim(declaration, where, place, mapping.external_port)


def _contest_ports(winner: Claim, loser: Claim) -> Iterator[Found]:
    if not winner.ports.overlaps(loser.ports):
        return
    interface, address, protocol = loser.place
    both = PortRange(
        max(winner.ports.first, loser.ports.first), min(winner.ports.last, loser.ports.last)
    )
    what = f"{protocol} {both} of {address} on {interface}"
    advice = "change one, or give one a lower priority number"
    for found in contest(winner.declaration, loser.declaration, loser.loc, what, advice):
        if rank(winner.declaration)[0] == rank(loser.declaration)[0]:
            yield found
        else:
            message = f"is not used: {what} goes to {winner.declaration.id}"
            before = f"{message}, {winner.declaration.origin}, whose priority comes first"
            yield Found(loser.declaration, loser.loc, before, Severity.WARNING)


def _sources(translations: Iterable[Placed]) -> Iterator[Found]:
    seen: defaultdict[tuple[InterfaceName, int], dict[int, _Nested]] = defaultdict(dict)
    for placed in translations:
        _, _, interface, nat = placed
        if nat.type not in ("snat", "masquerade"):
            continue
        sources = list(enumerate(nat.source_addresses or ANY))
        found = (
            item
            for index, source in sources
            for winner in _around(seen[interface, source.version], source)
            for item in _contest_source(winner, placed, index, source)
        )
        yield from islice(found, 1)
        for _, source in sources:
            lengths = seen[interface, source.version].setdefault(source.prefixlen, {})
            lengths.setdefault(int(source.network_address), []).append(placed)


_Nested = dict[int, list[Placed]]


def _around(seen: dict[int, _Nested], source: Network) -> Iterator[Placed]:
    """Yield the translations of networks that `source` lies in: networks nest or are apart."""
    for length in [length for length in sorted(seen) if length <= source.prefixlen]:
        shift = source.max_prefixlen - length
        yield from seen[length].get(int(source.network_address) >> shift << shift, ())


def _contest_source(winner: Placed, loser: Placed, index: int, source: Network) -> Iterator[Found]:
    (first, _, _, ours), (later, loc, _, theirs) = winner, loser
    same = (ours.type, ours.external_ip) == (theirs.type, theirs.external_ip)
    excluded = any(covers(network, source) for network in ours.exclude_addresses)
    selectors = (first.resource.spec.node_selector, later.resource.spec.node_selector)
    if same or excluded or disjoint(*selectors):
        return
    where = (*loc, "sourceAddresses", index) if theirs.source_addresses else (*loc, "type")
    message = f"sources in {source} are translated by {first.id}, {first.origin}, which comes first"
    advice = "give this one a lower priority number, or exclude them there"
    yield Found(later, where, f"{message}; {advice}", Severity.WARNING)
