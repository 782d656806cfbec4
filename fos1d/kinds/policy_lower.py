"""EBPFNetworkPolicy and the rules of EBPFContainerPolicy -> the classifier's tables, the places,
and the programs on interfaces and cgroups.

One set of tables serves all places and both directions. A changed rule is new tables and new
programs that are bound to them, swapped in one step on each hook; a place that comes or goes is an
entry of a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import PlaceFlag, PlaceKind
from fos1d.compile.policy import Chain
from fos1d.compile.policy_model import Route
from fos1d.compile.policy_tables import policy_places
from fos1d.compile.rule_stats import STAT, no_stats
from fos1d.errors import PolicyLimit
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.lowered import Context, Lowered, digest_of
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.network_policy import Route as RouteSpec
from fos1d.kinds.policy_compiled import Compiled, as_far_as_it_goes, compiled_rules
from fos1d.kinds.policy_gaps import tell_gaps
from fos1d.kinds.policy_interfaces import fast_places, interface_entries
from fos1d.kinds.policy_maps import lasting_maps
from fos1d.kinds.policy_places import (
    Place,
    Places,
    nothing_selected,
    places_of,
    selects,
    shown_selection,
)
from fos1d.kinds.policy_rules import PolicyRules, RuleSource, Selected, policy_rules
from fos1d.kinds.policy_workload_effects import CHANGING, CHANGING_ORDER, changing, changing_at
from fos1d.kinds.program_knobs import Knobs, lifeline_knobs
from fos1d.kinds.program_lower import FastPath, map_of_shape
from fos1d.kinds.rules import Peer
from fos1d.model.facts import Facts, Interface
from fos1d.model.identity import ResourceId
from fos1d.model.objects import (
    Attachment,
    BuiltIn,
    CgroupAttachment,
    CgroupHook,
    Entries,
    Hook,
    Map,
    Mode,
    Program,
    Table,
)
from fos1d.model.pins import SHARED_POLICY, program_family, state_family, table_path

Network: TypeAlias = IPv4Network | IPv6Network

TC = {
    Hook.TC_INGRESS: BuiltIn("tc_policy", "fos1_tc_policy_in"),
    Hook.TC_EGRESS: BuiltIn("tc_policy", "fos1_tc_policy_out"),
}
CGROUP = {
    CgroupHook.INGRESS: BuiltIn("cgroup_policy", "fos1_cgroup_receive"),
    CgroupHook.EGRESS: BuiltIn("cgroup_policy", "fos1_cgroup_send"),
}
XDP = BuiltIn("xdp_policy", "fos1_xdp_policy")
INTERFACES = "policy_interfaces"
OPERATOR = (1).to_bytes(4, "little")
# Among ours on a hook: after address translation on the way in, before it on the way out.
ORDER = {Hook.TC_INGRESS: 6, Hook.TC_EGRESS: 2}

PLACE_KEY, PLACE = np.dtype(abi.PLACE_KEY), np.dtype(abi.PLACE)
# After a place is first policed, segments of older connections begin flows.
ADOPTION_S = 60
# Where a next hop is looked up whose interface is not given (rtnetlink(7), RT_TABLE_MAIN).
MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class PolicyView:
    """What people may ask of the policies in force: the rule behind each counter, and the places
    that each policy selects. And the fast paths that interfaces may have, by name."""

    sources: Mapping[int, RuleSource] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    chains: tuple[tuple[int, ...], ...] = ()
    fast_paths: Mapping[str, FastPath] = field(default_factory=dict)


def lower_policies(here: Iterable[Accepted], context: Context, lowered: Lowered) -> PolicyView:
    """Add the objects of all policies; return what explains them."""
    policies = [accepted for accepted in here if _is_judging(accepted)]
    places = places_of(policies, context.facts)
    found = [accepted for accepted in policies if places.selected[accepted.id]]
    active = [one for one in policies if one in found or one.id in places.awaiting]
    for accepted in policies:
        if not places.selected[accepted.id]:
            lowered.selects_nothing(accepted.id, *nothing_selected(accepted))
        else:
            lowered.selects(accepted.id, shown_selection(places.selected[accepted.id]))
    claimants = [a.id for a in active] or list(context.translating.claimants)
    if not claimants:
        return PolicyView(places=places)
    tell_gaps(found, places, context.facts, lowered)
    compiled = _compiled(active, places, context, lowered)
    wanted = _Wanted(context, lowered, compiled, claimants)
    wanted.add_tables()
    wanted.add_places()
    wanted.add_operators()
    wanted.add_interfaces()
    wanted.add_cgroups()
    wanted.add_changes(changing(active, places))
    counters = counters_of(compiled.chains)
    return PolicyView(compiled.rules.sources, compiled.places, counters, wanted.fast_paths())


def counters_of(chains: Iterable[Chain]) -> tuple[tuple[int, ...], ...]:
    """Return the counter of each rule by its number, chain by chain."""
    return tuple(tuple(rule.counter for rule in chain.rules) for chain in chains)


def _is_judging(accepted: Accepted) -> bool:
    match accepted.declaration.resource:
        case EBPFContainerPolicy():
            return True
        case EBPFNetworkPolicy(spec=spec):
            return spec.policy_type != "nat"
        case _:
            return False


# Rules


def _rules(active: Sequence[Accepted], places: Places, context: Context) -> PolicyRules:
    selected = []
    for accepted in active:
        resource = accepted.declaration.resource
        assert isinstance(resource, EBPFNetworkPolicy | EBPFContainerPolicy)
        restricted = places.with_policy(accepted.id, grants=False)
        subjects = places.with_policy(accepted.id, grants=True) | restricted
        where = accepted.declaration.where
        selected.append(Selected(resource, subjects, where, restricted))
    facts = context.facts
    return policy_rules(
        selected,
        len(places.subjects),
        lambda peer, namespace, grants: _addresses_of(peer, namespace, grants, facts),
        lambda route: _route_of(route, facts),
    )


def _addresses_of(peer: Peer, namespace: str, grants: bool, facts: Facts) -> Iterator[Network]:
    """Yield the addresses of a peer's workloads."""
    for workload in facts.workloads:
        labels = workload.trusted_labels if grants else workload.labels
        if selects(peer.pod_selector, peer.namespace_selector, namespace, workload, labels):
            yield from (ip_network(address) for address in workload.addresses)


def _route_of(route: RouteSpec, facts: Facts) -> Route:
    interface = facts.interfaces.get(route.interface) if route.interface else None
    table = route.table or 0
    if route.next_hop and not interface:
        table = MAIN_TABLE
    return Route(interface.index if interface else 0, table, route.mark or 0, route.next_hop)


def _compiled(
    active: Sequence[Accepted], places: Places, context: Context, lowered: Lowered
) -> Compiled:
    """Return the compiled rules.

    Where they exceed a limit, the newest that did not stay; after a start, when there are none,
    the first rules up to the limit are in force and deny the rest.
    """
    rules, store = _rules(active, places, context), context.policies
    try:
        return compiled_rules(rules, places, store)
    except PolicyLimit as limit:
        _note_limit(limit, rules, active, lowered)
        return store.newest or as_far_as_it_goes(limit, rules, places)


def _note_limit(
    limit: PolicyLimit, rules: PolicyRules, active: Sequence[Accepted], lowered: Lowered
) -> None:
    guilty = rules.sources[rules.chains[limit.chain][limit.rule].counter]
    message = (
        f"{limit}: {guilty.policy} {guilty.direction}[{guilty.index}] is the first rule without"
        " room; the rules of all policies stay as they were"
    )
    for accepted in active:
        lowered.note(accepted.id, limit.reason, message)


# Objects


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The objects in the making, all of which every active policy claims; but each claims only the
    hooks of its own places."""

    context: Context
    lowered: Lowered
    compiled: Compiled
    claimants: Sequence[ResourceId]

    @property
    def places(self) -> Places:
        """The places of the rules in force."""
        return self.compiled.places

    def add_tables(self) -> None:
        """Add the tables and the maps that live longer than any rules."""
        for claimant in self.claimants:
            self.lowered.add(claimant, *self.compiled.tables.values(), *self._maps().values())

    def add_places(self) -> None:
        """Add the maps of places with their entries, and where these rules are counted."""
        places, interfaces = self._map_of_rules("policy_places"), self._map_of_rules(INTERFACES)
        records = policy_places(self.compiled.chains, self.compiled.rules.flags)
        found = sorted(self._record(place, records) for place in self.places.numbers)
        if len(found) > places.max_entries:
            self._note_excess(len(found), places.max_entries)
        packed = b"".join(found[: places.max_entries])
        entries = Entries(places.path, PLACE_KEY.itemsize, PLACE.itemsize, packed, exclusive=True)
        by_index = {
            place.id: self._record(place, records)[PLACE_KEY.itemsize :]
            for place in self.places.numbers
            if place.kind is PlaceKind.PLACE_INTERFACE
        }
        outsides = self.context.translating.outsides
        known = interface_entries(interfaces, by_index, self.context.facts, outsides)
        for claimant in self.claimants:
            self.lowered.add(claimant, places, interfaces, self._stats(), entries, known)

    def _note_excess(self, found: int, most: int) -> None:
        message = (
            f"all policies together select {found} interfaces and workloads; the first {most} of"
            " them, interfaces before workloads, are policed, the rest is open"
        )
        for claimant in self.claimants:
            self.lowered.note(claimant, "TooManyPlaces", message)

    def _record(self, place: Place, records: npt.NDArray[np.void]) -> bytes:
        key, value = np.zeros((), PLACE_KEY), records[self.places.numbers[place]].copy()
        key["kind"], key["id"] = place.kind, place.id
        if self.places.answers_for_router(place):
            value["flags"] |= np.uint32(PlaceFlag.PLACE_ROUTER)
        return bytes(key.tobytes() + value.tobytes())

    def add_operators(self) -> None:
        """Add the operator's own connections, which no rule closes."""
        facts, maps = self.context.facts, self._maps()
        for name, keys in (
            ("operator_flows4", facts.operator_flows4),
            ("operator_flows6", facts.operator_flows6),
        ):
            chosen = sorted(keys)[: maps[name].max_entries]
            packed = b"".join(key + OPERATOR for key in chosen)
            size = maps[name].key_bytes
            entries = Entries(maps[name].path, size, len(OPERATOR), packed, exclusive=True)
            for claimant in self.claimants:
                self.lowered.add(claimant, entries)

    def add_interfaces(self) -> None:
        """Add the programs of the interfaces that policies select."""
        by_name = {
            place.name: self._claimants_of(place)
            for place in self.places.numbers
            if place.kind is PlaceKind.PLACE_INTERFACE
        }
        interfaces = self.context.facts.interfaces
        for name, claimants in sorted(by_name.items()):
            if name not in interfaces:
                continue
            for hook, code in TC.items():
                self._attach(interfaces[name], hook, code, ORDER[hook], claimants)

    def fast_paths(self) -> dict[str, FastPath]:
        """Return the fast paths that interfaces may have, by name."""
        knobs: Knobs = {"policy_generation": self.compiled.version}
        program = self._program(Hook.XDP, XDP, knobs)
        able = fast_places(self.compiled, self.context.facts)
        claimants = {place.name: tuple(self._claimants_of(place)) for place in able}
        judged = {place.name for place in self.places.numbers}
        translating = self.context.translating
        for name in translating.fast & (claimants.keys() | translating.fast - judged):
            claimants[name] = (*claimants.get(name, ()), *translating.claimants)
        return {name: FastPath(program, found) for name, found in claimants.items()}

    def add_changes(self, claimants: Sequence[ResourceId]) -> None:
        """Add the programs that change what workloads send, for the policies that want it."""
        for interface in changing_at(self.context.facts) if claimants else ():
            self._attach(interface, Hook.TC_EGRESS, CHANGING, CHANGING_ORDER, claimants)

    def _attach(
        self,
        interface: Interface,
        hook: Hook,
        code: BuiltIn,
        order: int,
        claimants: Sequence[ResourceId],
    ) -> None:
        mode = Mode.TCX if self.context.facts.features.tcx else Mode.CLSACT
        program = self._program(hook, code, self._knobs(interface))
        attachment = Attachment(interface.name, hook, program.path, mode, order)
        for claimant in claimants:
            self.lowered.add(claimant, program, attachment)

    def add_cgroups(self) -> None:
        """Add the programs of the workloads: on the topmost cgroups, which see all below them.

        They are there before the first workload comes, so that it does not wait for them.
        """
        cgroups = {
            place.name: self._claimants_of(place)
            for place in self.places.numbers
            if place.kind is PlaceKind.PLACE_CGROUP
        }
        limits = any(claimant.kind == "EBPFContainerPolicy" for claimant in self.claimants)
        knobs = {**self._knobs(None), "limits_nobody": int(not limits)}
        programs = {hook: self._program(hook, code, knobs) for hook, code in CGROUP.items()}
        for claimant in sorted(self.places.awaiting.intersection(self.claimants)):
            self.lowered.add(claimant, *programs.values())
        for top in topmost(cgroups):
            below = {c for path, by in cgroups.items() if is_within(path, top) for c in by}
            for claimant in sorted(below):
                for hook, program in programs.items():
                    self.lowered.add(claimant, program, CgroupAttachment(top, hook, program.path))

    def _claimants_of(self, place: Place) -> list[ResourceId]:
        return [c for c in self.claimants if place in self.places.selected.get(c, ())]

    def _knobs(self, interface: Interface | None) -> Knobs:
        return {
            "policy_generation": self.compiled.version,
            "link_header_bytes": interface.link_header_bytes if interface else 0,
            "adoption_ns": ADOPTION_S * int(abi.Time.NS_PER_SECOND),
            **lifeline_knobs(self.context.failsafe_ports),
        }

    def _program(self, hook: Hook | CgroupHook, code: BuiltIn, knobs: Knobs) -> Program:
        shapes = abi.MAPS[code.object]
        known = {name: found.path for name, found in self._maps().items()}
        known |= {name: table.path for name, table in self.compiled.tables.items()}
        known |= {name: self._map_of_rules(name).path for name in ("policy_places", INTERFACES)}
        known |= {"policy_stats": self._stats().path}
        bound = {name: path for name, path in known.items() if name in shapes}
        constants = tuple(sorted((k, v) for k, v in knobs.items() if k in abi.KNOBS[code.object]))
        content = self.context.facts.objects[code.object]
        return Program(
            program_family(SHARED_POLICY),
            digest_of(code.object, code.function, content, constants, sorted(bound.items())),
            frozenset(bound.values()),
            hook,
            code,
            constants,
            tuple(sorted(bound.items())),
        )

    def _map_of_rules(self, name: str) -> Map:
        shape = abi.MAPS[TC[Hook.TC_INGRESS].object][name]
        version = f"{name.removeprefix('policy_')}-{self.compiled.version:08x}"
        return map_of_shape(state_family(SHARED_POLICY, version), name, shape)

    def _stats(self) -> Table:
        """Return where the rules are counted, which rules alike share."""
        counters = [n for chain in counters_of(self.compiled.chains) for n in chain]
        cpus = self.context.facts.cpus
        path = table_path(digest_of(cpus, counters), "policy_stats")
        return Table(path, STAT.itemsize, False, lambda: no_stats(counters, cpus).data.cast("B"))

    def _maps(self) -> dict[str, Map]:
        apart = self.compiled.tables.keys() | {"policy_places", "policy_stats", INTERFACES}
        return lasting_maps(CODES, self.context, apart)


CODES = (*TC.values(), *CGROUP.values(), XDP)


def topmost(cgroups: Iterable[str]) -> list[str]:
    """Return the paths that are not within another of them."""
    paths = sorted(set(cgroups))
    return [path for path in paths if not any(is_within(path, o) for o in paths if o != path)]


def is_within(path: str, above: str) -> bool:
    """Whether a cgroup is another one or below it; `.` is the root."""
    return above == "." or path == above or path.startswith(f"{above}/")
