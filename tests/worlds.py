"""Hypothesis strategies: desired states that a kernel can really hold, and what strangers do.

One body of test runs on the simulated and on the real kernel, so the objects are small and real:
maps of several types, programs of ours, attachments on two interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from fos1d import abi
from fos1d.model.objects import (
    NO_PREALLOC,
    Attachment,
    BuiltIn,
    CgroupAttachment,
    CgroupHook,
    Entries,
    Hook,
    KernelObject,
    Key,
    Map,
    MapType,
    Mode,
    PinAlias,
    Program,
    UserObject,
    key_of,
)
from tests.hooks import cgroup_object

FILTER = BuiltIn("xdp_filter", "fos1_xdp_filter")
FLOW = BuiltIn("tc_flow", "fos1_tc_flow")
INTERFACES = ("v0", "v1")
CGROUPS = ("a.service", "b.slice", "b.slice/c:~%.scope")

SHAPES = (
    (MapType.HASH, 4, 4, 8, 0),
    (MapType.HASH, 4, 4, 16, 0),
    (MapType.HASH, 8, 16, 16, 0),
    (MapType.LPM_TRIE, 8, 4, 16, NO_PREALLOC),
    (MapType.ARRAY, 4, 8, 8, 0),
    (MapType.PERCPU_HASH, 4, 8, 8, 0),
    (MapType.LRU_HASH, 4, 4, 64, 0),
    (MapType.QUEUE, 0, 4, 8, 0),
    (MapType.RINGBUF, 0, 0, 4096, 0),
)
WITH_ENTRIES = frozenset({MapType.HASH, MapType.LPM_TRIE, MapType.ARRAY, MapType.PERCPU_HASH})


def declared(object_name: str, name: str, family: str) -> Map:
    """Return a map as an object file declares it."""
    shape = abi.MAPS[object_name][name]
    return Map(
        family,
        MapType(shape.type),
        shape.key_bytes,
        shape.value_bytes,
        min(shape.max_entries, 1024),
        shape.flags,
    )


STATS = declared("xdp_filter", "stats", "state/default:p/stats")
FLOW_MAPS = {name: declared("tc_flow", name, f"state/_flow/{name}") for name in abi.MAPS["tc_flow"]}


def keys_for(shape: Map) -> st.SearchStrategy[bytes]:
    """Return keys that a map of this shape accepts."""
    if shape.type is MapType.LPM_TRIE:
        return st.integers(0, 20).map(lambda i: b"\x18\0\0\0" + bytes([10, 0, i, 0]))
    top = shape.max_entries - 1 if shape.type is MapType.ARRAY else 20
    return st.integers(0, top).map(lambda i: i.to_bytes(shape.key_bytes, "little"))


@st.composite
def user_maps(draw: st.DrawFn) -> list[Map]:
    """Draw maps, at most one shape a family."""
    families = draw(st.lists(st.integers(0, 3), max_size=4, unique=True))
    return [Map(f"map/default:m{n}", *draw(st.sampled_from(SHAPES))) for n in families]


@st.composite
def entries_of(draw: st.DrawFn, shape: Map) -> Entries:
    """Draw contents that fit into a map."""
    most = min(4, shape.max_entries)
    keys = draw(st.lists(keys_for(shape), max_size=most, unique=True))
    values = [draw(st.binary(min_size=shape.value_bytes, max_size=shape.value_bytes)) for _ in keys]
    packed = b"".join(key + value for key, value in sorted(zip(keys, values, strict=True)))
    exclusive = draw(st.booleans()) and shape.type is not MapType.ARRAY
    return Entries(shape.path, shape.key_bytes, shape.value_bytes, packed, exclusive)


def filter_program(digest: str, lists: list[Map]) -> Program:
    """Return an XDP filter that reads the given lpm_trie maps."""
    bound = {f"user4_{i}": found.path for i, found in enumerate(lists)} | {"stats": STATS.path}
    return Program(
        "program/default:p",
        f"{digest}{len(lists)}",
        frozenset(bound.values()),
        code=FILTER,
        constants=(("link_header_bytes", 14), ("user4_lists", len(lists))),
        maps=tuple(sorted(bound.items())),
    )


def flow_program(digest: str) -> Program:
    """Return an egress companion."""
    bound = {name: found.path for name, found in FLOW_MAPS.items()}
    return Program(
        "program/_flow",
        digest,
        frozenset(bound.values()),
        Hook.TC_EGRESS,
        FLOW,
        (("link_header_bytes", 14),),
        tuple(sorted(bound.items())),
    )


def cgroup_program(digest: str, hook: CgroupHook) -> Program:
    """Return a program for a hook of cgroups; the digest is its verdict, 0 or 1."""
    function = f"{hook.replace('-', '_')}_{digest}"
    code = UserObject("hooks.c", function, digest, cgroup_object)
    return Program(f"program/_{hook}", digest, hook=hook, code=code)


@st.composite
def cgroup_objects(draw: st.DrawFn) -> list[KernelObject]:
    """Draw programs on cgroups, one or two on a hook."""
    places = draw(st.lists(st.sampled_from(CGROUPS), max_size=2, unique=True))
    objects: list[KernelObject] = []
    for place in places:
        hook = draw(st.sampled_from(tuple(CgroupHook)))
        for slot in range(draw(st.integers(1, 2))):
            program = cgroup_program(draw(st.sampled_from("01")), hook)
            objects += [program, CgroupAttachment(place, hook, program.path, slot)]
    return objects


@st.composite
def desired_states(draw: st.DrawFn, alias_folder: Path) -> dict[Key, KernelObject]:
    """Draw a consistent desired state: whatever an object needs is in it."""
    maps = draw(user_maps())
    objects: list[KernelObject] = list(maps)
    for shape in maps:
        if shape.type in WITH_ENTRIES and draw(st.booleans()):
            objects.append(draw(entries_of(shape)))
        if draw(st.booleans()):
            objects.append(PinAlias(str(alias_folder / shape.family.rsplit(":")[-1]), shape.path))
    lists = [shape for shape in maps if shape.type is MapType.LPM_TRIE]
    for interface in INTERFACES:
        if draw(st.booleans()):
            program = filter_program(draw(st.sampled_from("ab")), lists)
            mode = draw(st.sampled_from((Mode.AUTO, Mode.NATIVE, Mode.GENERIC)))
            objects += [STATS, program, Attachment(interface, Hook.XDP, program.path, mode)]
        if draw(st.booleans()):
            companion = flow_program(draw(st.sampled_from("ab")))
            how = draw(st.sampled_from((Mode.TCX, Mode.CLSACT)))
            place = Attachment(interface, Hook.TC_EGRESS, companion.path, how, 8)
            objects += [*FLOW_MAPS.values(), companion, place]
    objects += draw(cgroup_objects())
    return {key_of(obj): obj for obj in objects}


@dataclass(frozen=True)
class Meddling:
    """What a stranger does between two passes."""

    lost: tuple[int, ...]
    entries: tuple[tuple[int, int, int], ...]


def meddlings() -> st.SearchStrategy[Meddling]:
    """Draw which objects (by index among the sorted ones) vanish, which entries are written."""
    numbers = st.integers(0, 40)
    return st.builds(
        Meddling,
        st.lists(numbers, max_size=4).map(tuple),
        st.lists(st.tuples(numbers, st.integers(0, 7), st.integers(0, 255)), max_size=4).map(tuple),
    )
