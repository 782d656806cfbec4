"""EBPFProgram of type xdp -> Program, Attachment, their maps and tables; users' own programs.

One program on an interface is attached as it is, and shared by all interfaces that want it.
Several are chained by priority: each hands what it lets pass to the next by tail call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fos1d import abi
from fos1d.kinds.files import resolve
from fos1d.kinds.frames import canned_packets
from fos1d.kinds.lowered import Context, Lowered, digest_of
from fos1d.kinds.program import EBPFProgram, Source
from fos1d.kinds.program_knobs import Knobs, filter_knobs, tracks_flows
from fos1d.kinds.program_lists import blacklist_of, list_knobs, tables_of, user_lists
from fos1d.model.facts import FastPath as Want
from fos1d.model.facts import Features, Interface
from fos1d.model.failsafe import own_tcp_ports
from fos1d.model.identity import Origin, ResourceId
from fos1d.model.objects import (
    Attachment,
    BuiltIn,
    CannedPacket,
    CgroupHook,
    Hook,
    Map,
    MapType,
    Mode,
    Next,
    Program,
    ProgramCode,
    Slots,
    UserObject,
    UserSource,
)
from fos1d.model.pins import (
    SHARED_FLOW,
    chain_family,
    owner_name,
    program_family,
    state_family,
)
from fos1d.model.snapshot import Blob

FILTER = BuiltIn("xdp_filter", "fos1_xdp_filter")
FLOW = BuiltIn("tc_flow", "fos1_tc_flow")
FLOW_ORDER = 8
LABEL_BYTES = 15
FLOW_MAPS = ("flows4", "flows6", "new_flows4", "new_flows6", "connections")
SOURCE_MAPS = ("sources", "crowds", "newcomers")


@dataclass(frozen=True, slots=True)
class Declared:
    """A program with where it was written, its files, and the user's maps that it reads."""

    resource: EBPFProgram
    origin: Origin
    files: Mapping[str, Blob]
    maps: tuple[Map, ...] = ()

    @property
    def rank(self) -> tuple[int, str, str]:
        """Place among the programs of a hook: priority, then name space, then name."""
        metadata = self.resource.metadata
        return self.resource.spec.priority, metadata.namespace, metadata.name


@dataclass(frozen=True, slots=True)
class FastPath:
    """A program that comes after all others and sends frames on, and the policies that it serves.

    A changed one takes the place of the old one; the chain before it stays.
    """

    program: Program
    claimants: tuple[ResourceId, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A program before it is known what follows it."""

    claimants: tuple[ResourceId, ...]
    program: Program
    link_header_bytes: int
    samples: tuple[int | tuple[int, int], ...] = ()
    is_fast_path: bool = False


def chosen_fast_paths(
    possible: Mapping[str, FastPath],
    programs: Mapping[str, Sequence[Declared]],
    features: Features,
) -> dict[str, FastPath]:
    """Return those of the fast paths, by interface, that shall be: `auto` brings XDP nowhere where
    nobody asked for it, and in generic mode there is nothing to gain."""
    return {
        name: path
        for name, path in possible.items()
        if (name in programs or features.fast_path is Want.XDP)
        and all(declared.resource.spec.mode != "generic" for declared in programs.get(name, ()))
    }


def lower_interface(
    interface: Interface,
    programs: Sequence[Declared],
    fast_path: FastPath | None,
    context: Context,
    lowered: Lowered,
) -> None:
    """Add the objects of all XDP programs on one interface, of which there is at least one."""
    ranked = sorted(programs, key=lambda declared: declared.rank)
    parts = [_part(declared, interface, context, lowered) for declared in ranked]
    if fast_path is not None:
        header = interface.link_header_bytes
        last = _Part(fast_path.claimants, fast_path.program, header, is_fast_path=True)
        parts.append(last)
    chained = _chain(interface, parts, lowered) if len(parts) > 1 else [_alone(parts[0])]
    mode = _mode(interface, ranked, lowered)
    attachment = Attachment(interface.name, Hook.XDP, chained[0].path, mode)
    for part, program in zip(parts, chained, strict=True):
        for claimant in part.claimants:
            lowered.add(claimant, program, attachment)
    for declared in ranked:
        if tracks_flows(declared.resource.spec.settings):
            _add_companion(interface, declared, context, lowered)


def _mode(interface: Interface, ranked: Sequence[Declared], lowered: Lowered) -> Mode:
    """Return the mode that the first explicit wish asks for, and tell those who ask otherwise.

    The fast path alone has no use for the generic mode.
    """
    if not ranked:
        return Mode.NATIVE
    wishes = [declared for declared in ranked if declared.resource.spec.mode != "auto"]
    if not wishes:
        return Mode.AUTO
    winner = wishes[0].resource
    for other in wishes[1:]:
        if other.resource.spec.mode != winner.spec.mode:
            lowered.note(
                other.resource.id,
                "ModeConflict",
                f"it asks for {other.resource.spec.mode} mode on {interface.name}, where "
                f"{winner.id} (priority {winner.spec.priority}) asks for {winner.spec.mode}; "
                "an interface has one mode",
            )
    return Mode(winner.spec.mode)


# One program


def _part(declared: Declared, interface: Interface, context: Context, lowered: Lowered) -> _Part:
    if declared.resource.spec.source is not None:
        return _user_part(declared, interface, lowered)
    return _filter_part(declared, interface, context, lowered)


def _filter_part(
    declared: Declared, interface: Interface, context: Context, lowered: Lowered
) -> _Part:
    resource = declared.resource
    listed = blacklist_of(resource, declared.origin, declared.files, context.lists)
    knobs = filter_knobs(resource.spec.settings, own_tcp_ports(context.failsafe_ports))
    knobs |= {
        "link_header_bytes": interface.link_header_bytes,
        "counts_loopback": interface.index == 1,
    }
    knobs |= list_knobs(listed, declared.maps)
    maps, tables = _state_maps(declared, context), tables_of(listed)
    lowered.add(resource.id, *maps.values(), *tables.values())
    bound = {name: found.path for name, found in maps.items()}
    bound |= {name: found.path for name, found in tables.items()}
    bound |= user_lists(declared.maps)
    program = _program(declared, FILTER, context.facts.objects[FILTER.object], knobs, bound)
    claimants, samples = (resource.id,), tuple(listed.sample())
    return _Part(claimants, program, interface.link_header_bytes, samples)


def _user_part(declared: Declared, interface: Interface, lowered: Lowered) -> _Part:
    program = user_program(declared, Hook.XDP, lowered)
    return _Part((declared.resource.id,), program, interface.link_header_bytes)


def user_program(declared: Declared, hook: Hook | CgroupHook, lowered: Lowered) -> Program:
    """Return the program of a user, bound to the EBPFMaps that name it."""
    code = _user_code(declared)
    bound = {found.label.replace("-", "_"): found.path for found in declared.maps}
    if bound and isinstance(code, UserSource):
        lowered.note(
            declared.resource.id,
            "MapsNotBound",
            f"BCC makes its own maps: {', '.join(sorted(bound))} cannot be bound to it; give the "
            "map a pinPath and open it there (BPF_TABLE_PINNED), and drop accessedBy",
        )
        bound = {}
    return _program(declared, code, code.content_id, {}, bound, hook)


def _user_code(declared: Declared) -> UserObject | UserSource:
    source, blob = source_of(declared)
    if source.object:
        return UserObject(blob.path, str(source.program), blob.id, blob.read)
    return UserSource(blob.path, str(source.function), blob.id, blob.read)


def source_of(declared: Declared) -> tuple[Source, Blob]:
    """Return the source of a user's own program, and its file."""
    source = declared.resource.spec.source
    assert source is not None
    return source, declared.files[resolve(declared.origin.path, str(source.object or source.bcc))]


def _program(
    declared: Declared,
    code: ProgramCode,
    content: str,
    knobs: Knobs,
    bound: dict[str, str],
    hook: Hook | CgroupHook = Hook.XDP,
) -> Program:
    constants = tuple(sorted(knobs.items()))
    maps = tuple(sorted(bound.items()))
    return Program(
        program_family(owner_name(declared.resource.id)),
        digest_of(code_name(code), content, constants, maps),
        frozenset(bound.values()),
        hook,
        code,
        constants,
        maps,
    )


def code_name(code: ProgramCode) -> str:
    """Return the name of the code: its file and function."""
    match code:
        case BuiltIn(object=name, function=function):
            return f"{name} {function}"
        case UserObject() | UserSource():
            return f"{code.path} {code.function}"


def _alone(part: _Part) -> Program:
    return replace(part.program, check=_checks(part, is_last=True))


def _checks(part: _Part, is_last: bool) -> tuple[CannedPacket, ...]:
    if part.is_fast_path or not isinstance(part.program.code, BuiltIn):
        return ()
    return canned_packets(list(part.samples), part.link_header_bytes, is_last)


# Several programs


def _chain(interface: Interface, parts: Sequence[_Part], lowered: Lowered) -> list[Program]:
    shape = abi.MAPS[FILTER.object]["chain"]
    named = ["" if part.is_fast_path else part.program.path for part in parts]
    digest = digest_of(named)
    chain = Map(
        f"{chain_family(interface.name)}/{digest}",
        MapType.PROG_ARRAY,
        shape.key_bytes,
        shape.value_bytes,
        shape.max_entries,
        label="fos1_chain",
    )
    last = len(parts) - 1
    programs = [
        _followed(part, chain, slot)
        if slot < last
        else replace(part.program, check=_checks(part, True))
        for slot, part in enumerate(parts)
    ]
    slots = Slots(chain.path, tuple(program.path for program in programs))
    for part in parts:
        for claimant in part.claimants:
            lowered.add(claimant, chain, slots)
    return programs


def _followed(part: _Part, chain: Map, slot: int) -> Program:
    """Return the program that hands on to the next slot of the chain."""
    program = part.program
    knobs = dict(program.constants)
    maps = dict(program.maps)
    if isinstance(program.code, BuiltIn):
        knobs |= {"chained": 1, "chain_next": slot + 1}
        maps["chain"] = chain.path
    return replace(
        program,
        digest=digest_of(program.digest, chain.path, slot),
        bound=program.bound | {chain.path},
        constants=tuple(sorted(knobs.items())),
        maps=tuple(sorted(maps.items())),
        successor=Next(chain.path, slot + 1),
        check=_checks(part, is_last=False),
    )


# Maps and tables


def map_of_shape(family: str, name: str, shape: abi.MapShape, most: int | None = None) -> Map:
    """Return a map as an object file declares it, but for its size where `most` is given."""
    return Map(
        family,
        MapType(shape.type),
        shape.key_bytes,
        shape.value_bytes,
        most or shape.max_entries,
        shape.flags,
        f"fos1_{name}"[:LABEL_BYTES],
    )


def _declared_map(name: str, owner: str, most: int | None = None) -> Map:
    shape = abi.MAPS[FILTER.object][name]
    return map_of_shape(state_family(owner, name), name, shape, most)


def flow_maps(context: Context) -> dict[str, Map]:
    """Return the flow tables, shared by all programs."""
    most = {"flows4": context.most_flows, "flows6": context.most_flows}
    return {name: _declared_map(name, SHARED_FLOW, most.get(name)) for name in FLOW_MAPS}


def _state_maps(declared: Declared, context: Context) -> dict[str, Map]:
    owner = owner_name(declared.resource.id)
    settings = declared.resource.spec.settings
    names = ["stats"]
    if any(value for name, value in filter_knobs(settings, ()).items() if name.endswith("_cost")):
        names += SOURCE_MAPS
    if settings.stateful:
        names += ["tracking", "fragments"]
    maps = {name: _declared_map(name, owner) for name in names}
    return maps | (flow_maps(context) if tracks_flows(settings) else {})


def _add_companion(
    interface: Interface, declared: Declared, context: Context, lowered: Lowered
) -> None:
    """Add the program that sees what leaves the interface."""
    maps = {n: m for n, m in flow_maps(context).items() if n in abi.MAPS[FLOW.object]}
    knobs = (("link_header_bytes", interface.link_header_bytes),)
    bound = tuple(sorted((name, found.path) for name, found in maps.items()))
    digest = digest_of(code_name(FLOW), context.facts.objects[FLOW.object], knobs, bound)
    program = Program(
        program_family(SHARED_FLOW),
        digest,
        frozenset(path for _, path in bound),
        Hook.TC_EGRESS,
        FLOW,
        knobs,
        bound,
    )
    mode = Mode.TCX if context.facts.features.tcx else Mode.CLSACT
    attachment = Attachment(interface.name, Hook.TC_EGRESS, program.path, mode, FLOW_ORDER)
    lowered.add(declared.resource.id, *maps.values(), program, attachment)
