"""Translations -> their maps, and the programs on outside and inside interfaces.

What packets say (flows, ends, counters) is in maps that outlive every version of the rules; what
the rules say is in maps of one version, to which the programs of that version are bound. Addresses
and interfaces are entries of these, so that a changed one is there at once, and no program anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fos1d import abi
from fos1d.kinds.admission import Accepted
from fos1d.kinds.lowered import Context, Lowered, digest_of
from fos1d.kinds.nat_remarks import tell
from fos1d.kinds.nat_rules import NatRule, nat_rules, translation_of
from fos1d.kinds.nat_tables import MAPS_OF_RULES, NatTables, nat_tables
from fos1d.kinds.program_lower import map_of_shape
from fos1d.kinds.translation import Translation
from fos1d.model.facts import Facts, FastPath, Interface
from fos1d.model.identity import ResourceId
from fos1d.model.objects import ARRAYS, Attachment, BuiltIn, Entries, Hook, Map, Mode, Program
from fos1d.model.pins import SHARED_NAT, SHARED_POLICY, program_family, state_family

LOOPBACK = 772
LEAST_ROOM = 16
FRAGMENTS = "fragments"
TWICE_THE_FLOWS = ("nat_flows", "nat_ends")


@dataclass(frozen=True, slots=True)
class Station:
    """A program on a hook; `order` places it among ours there."""

    code: BuiltIn
    hook: Hook
    order: int


def _stations(name: str, order: int, *ways: str) -> tuple[Station, ...]:
    hooks = {"in": Hook.TC_INGRESS, "out": Hook.TC_EGRESS}
    return tuple(
        Station(BuiltIn(name, f"fos1_{name}_{way}"), hooks[way.rpartition("_")[2]], order)
        for way in ways
    )


# After the policies on the way out, before them on the way in (policy_lower.py, ORDER).
OUTSIDE = {4: _stations("tc_nat4", 4, "in", "out"), 6: _stations("tc_nat6", 5, "in", "out")}
TURNS = {
    4: _stations("tc_nat4", 4, "turn_in", "turn_out"),
    6: _stations("tc_nat6", 5, "turn_in", "turn_out"),
}
NAT64_OUTSIDE = Station(BuiltIn("tc_nat64", "fos1_tc_nat64_in"), Hook.TC_INGRESS, 3)
NAT64_INSIDE = Station(BuiltIn("tc_nat64", "fos1_tc_nat64_out"), Hook.TC_INGRESS, 7)
FORWARD = Station(BuiltIn("tc_forward", "fos1_tc_forward"), Hook.TC_INGRESS, 8)
CODES = ("tc_nat4", "tc_nat6", "tc_nat64", "tc_forward")


@dataclass(frozen=True, slots=True)
class NatView:
    """What people may ask of the translations in force: the rule behind each number. `digest`
    stands for the rules and addresses, 0 for none; `maps` are by name; `outsides` are the IP
    versions that are translated at each outside interface, `insides` the other interfaces."""

    rules: Mapping[int, NatRule] = field(default_factory=dict)
    digest: int = 0
    maps: Mapping[str, Map] = field(default_factory=dict)
    outsides: Mapping[str, frozenset[int]] = field(default_factory=dict)
    insides: frozenset[str] = frozenset()


def lower_translations(here: Iterable[Accepted], context: Context, lowered: Lowered) -> NatView:
    """Add the objects of all translations; return what explains them."""
    asked = [a for a in here if translation_of(a) is not None]
    if not asked:
        return NatView()
    rules = nat_rules(asked, context.facts)
    tables = nat_tables(rules, context.nats)
    tell(asked, tables, context.facts, lowered)
    wanted = _Wanted(context, lowered, tables, _translations(asked), version_of(asked))
    wanted.add_maps()
    wanted.add_outsides()
    wanted.add_insides()
    return wanted.view()


def _translations(asked: Iterable[Accepted]) -> dict[ResourceId, Translation]:
    found = ((accepted.id, translation_of(accepted)) for accepted in asked)
    return {identity: pair[0] for identity, pair in found if pair is not None}


def version_of(asked: Iterable[Accepted]) -> int:
    """Return a number for what is declared, whatever addresses and interfaces there are; not 0."""
    found = sorted((str(a.id), a.declaration.digest) for a in asked)
    return int(digest_of(found)[:8], 16) | 1


def families(nat: Translation) -> tuple[int, ...]:
    """Return the IP versions whose packets a translation may be about, whatever addresses there
    are at the moment: state does not end with an address."""
    if nat.type == "nat64":
        return ()
    if nat.external_ip is not None:
        return (nat.external_ip.version,)
    versions = sorted({network.version for network in nat.source_addresses})
    return tuple(versions) or (4, 6)


def is_stateless(nat: Translation) -> bool:
    """Whether a translation rewrites without flows."""
    return nat.type == "npt66" or not nat.enable_tracking


def may_mirror(nat: Translation) -> bool:
    """Whether declared ports of a translation may have mirrors, given some addresses."""
    return nat.type == "full" or not nat.enable_tracking or bool(nat.port_mappings)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The objects in the making. Every policy claims the maps; each the hooks of its interfaces."""

    context: Context
    lowered: Lowered
    tables: NatTables
    asked: Mapping[ResourceId, Translation]
    version: int

    @property
    def outsides(self) -> frozenset[str]:
        """The outside interfaces."""
        return frozenset(rule.interface for rule in self.tables.rules)

    # Maps

    def add_maps(self) -> None:
        """Add the maps that the programs of anybody need; those of flows stay without interfaces,
        which may come back."""
        known = self.wanted_maps()
        maps = list(known.values())
        entries = [self._entries(found, name) for name, found in known.items()]
        names = {name for code in self._codes() for name in abi.MAPS[code]}
        tables = [
            self.tables.backends[name] for name in sorted(names & self.tables.backends.keys())
        ]
        for claimant in self.asked:
            self.lowered.add(claimant, *maps, *(e for e in entries if e), *tables)

    def wanted_maps(self) -> dict[str, Map]:
        """Return the maps that anybody's programs need, by name."""
        names = {name for code in self._codes() for name in abi.MAPS[code]}
        return {name: found for name, found in sorted(self._maps().items()) if name in names}

    def view(self) -> NatView:
        """Return what people may ask, and what others build on."""
        insides = inside_interfaces(self.context.facts, self.outsides)
        translated: dict[str, frozenset[int]] = {}
        for rule in self.tables.rules:
            versions = families(rule.translation) or (4,)
            found = translated.get(rule.interface, frozenset())
            translated[rule.interface] = found.union(versions)
        return NatView(
            {rule.number: rule for rule in self.tables.rules},
            self.tables.digest,
            self.wanted_maps(),
            translated,
            frozenset(interface.name for interface in insides),
        )

    def _codes(self) -> Iterator[str]:
        """Yield the object files whose programs are wanted by anybody."""
        for nat in self.asked.values():
            yield from (OUTSIDE[version][0].code.object for version in families(nat))
            if nat.type == "nat64":
                yield NAT64_INSIDE.code.object
        if self._goes_straight:
            yield FORWARD.code.object

    def _maps(self) -> dict[str, Map]:
        shapes = {n: s for code in CODES for n, s in abi.MAPS[code].items()}
        return {
            name: self._map(name, shape)
            for name, shape in shapes.items()
            if name not in self.tables.backends
        }

    def _map(self, name: str, shape: abi.MapShape) -> Map:
        if name == FRAGMENTS:
            return map_of_shape(state_family(SHARED_POLICY, name), name, shape)
        if name in MAPS_OF_RULES:
            family = state_family(SHARED_NAT, f"{name}-{self.version:08x}")
            return map_of_shape(family, name, shape, self._room(name, shape))
        most = self._most_of_state(name) if name[:-1] in TWICE_THE_FLOWS else None
        return map_of_shape(state_family(SHARED_NAT, name), name, shape, most)

    def _most_of_state(self, name: str) -> int:
        """Return how many entries what packets say has: hardly any of a family without policies."""
        is_used = any(int(name[-1]) in (families(n) or (4, 6)) for n in self.asked.values())
        return 2 * self.context.most_flows if is_used else 1

    def _room(self, name: str, shape: abi.MapShape) -> int:
        """Return how many entries a map holds: new ones come before old ones go."""
        if shape.type in ARRAYS:
            return shape.max_entries
        count = len(self.tables.packed[name]) // (shape.key_bytes + shape.value_bytes)
        return max(LEAST_ROOM, 1 << (2 * count - 1).bit_length())

    def _entries(self, target: Map, name: str) -> Entries | None:
        if name not in MAPS_OF_RULES:
            return None
        packed = self.tables.packed[name]
        return Entries(target.path, target.key_bytes, target.value_bytes, packed, exclusive=True)

    # Programs

    def add_outsides(self) -> None:
        """Add the programs of the outside interfaces."""
        for rule in self.tables.rules:
            interface = self.context.facts.interfaces[rule.interface]
            for station in self._of_outside(rule.translation):
                self._attach(interface, station, [rule.policy])

    def _of_outside(self, nat: Translation) -> Iterator[Station]:
        for version in families(nat):
            yield from OUTSIDE[version]
        if nat.type == "nat64":
            yield NAT64_OUTSIDE
        if self._goes_straight:
            yield FORWARD

    def add_insides(self) -> None:
        """Add the programs of all other interfaces."""
        for interface in inside_interfaces(self.context.facts, self.outsides):
            for rule in self.tables.rules:
                for station in self._of_inside(rule.translation):
                    self._attach(interface, station, [rule.policy])

    def _of_inside(self, nat: Translation) -> Iterator[Station]:
        if nat.hairpin and nat.type != "npt66":
            for version in families(nat):
                yield from TURNS[version]
        if nat.type == "nat64":
            yield NAT64_INSIDE
        if self._goes_straight:
            yield FORWARD

    @property
    def _goes_straight(self) -> bool:
        return self.context.facts.features.fast_path is FastPath.TC

    def _attach(
        self, interface: Interface, station: Station, claimants: Sequence[ResourceId]
    ) -> None:
        mode = Mode.TCX if self.context.facts.features.tcx else Mode.CLSACT
        program = self._program(station, interface)
        attachment = Attachment(interface.name, station.hook, program.path, mode, station.order)
        for claimant in claimants:
            self.lowered.add(claimant, program, attachment)

    def _program(self, station: Station, interface: Interface) -> Program:
        code = station.code
        constants = tuple(
            sorted((k, v) for k, v in self._knobs(interface).items() if k in abi.KNOBS[code.object])
        )
        known = {name: found.path for name, found in self._maps().items()}
        known |= {name: table.path for name, table in self.tables.backends.items()}
        bound = tuple(sorted((name, known[name]) for name in abi.MAPS[code.object]))
        content = self.context.facts.objects[code.object]
        return Program(
            program_family(SHARED_NAT),
            digest_of(code.object, code.function, content, constants, bound),
            frozenset(path for _, path in bound),
            station.hook,
            code,
            constants,
            bound,
        )

    def _knobs(self, interface: Interface) -> dict[str, int]:
        return {
            "link_header_bytes": interface.link_header_bytes,
            "nat_has_stateless": int(any(map(is_stateless, self.asked.values()))),
            "nat_has_mirrors": int(any(map(may_mirror, self.asked.values()))),
        }


def inside_interfaces(facts: Facts, outsides: frozenset[str]) -> list[Interface]:
    """Return the interfaces by which packets of the inside are routed: all but outside ones,
    loopback, and ports of a bridge or a bond, whose packets come by that."""
    return [
        interface
        for interface in facts.matching("*")
        if interface.name not in outsides
        and interface.link_type != LOOPBACK
        and not interface.is_port
    ]
