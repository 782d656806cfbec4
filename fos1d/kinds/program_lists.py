"""The blacklist of an XDP program: its own lists as frozen tables, and the user's maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fos1d import abi
from fos1d.compile.lists import AddressSet, ListStore
from fos1d.compile.set6 import filter_bits, level_base
from fos1d.kinds.files import resolve
from fos1d.kinds.lowered import digest_of
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.program_knobs import Knobs
from fos1d.model.identity import Origin
from fos1d.model.objects import Map, MapType, Table
from fos1d.model.pins import table_path
from fos1d.model.snapshot import Blob

OBJECT = "xdp_filter"
KEY_BYTES = {4: 8, 6: 20}


def blacklist_of(
    program: EBPFProgram, origin: Origin, files: Mapping[str, Blob], lists: ListStore
) -> AddressSet:
    """Return the set of sources that a program drops by its own lists.

    Raises ListError for a list with wrong lines.
    """
    blacklist = program.spec.settings.blacklist
    if not blacklist.enabled:
        return lists.set_of((), ())
    paths = [resolve(origin.path, file) for file in blacklist.files]
    return lists.set_of(blacklist.ips, [files[path] for path in paths])


def tables_of(listed: AddressSet) -> dict[str, Table]:
    """Return the tables of the families that have members, by their names in the object."""
    tables: dict[str, Table] = {}
    if len(listed.v4):
        tables |= {
            "set4_lines": _table(listed.digest4, "set4_lines", lambda: listed.set4.lines.data),
            "set4_leaves": _table(listed.digest4, "set4_leaves", lambda: listed.set4.leaves.data),
            "set4_blocks": _table(listed.digest4, "set4_blocks", lambda: listed.set4.blocks.data),
        }
    if len(listed.v6):
        tables |= {
            "set6_filter": _table(listed.digest6, "set6_filter", lambda: listed.set6.filter.data),
            "set6_nodes": _table(listed.digest6, "set6_nodes", lambda: listed.set6.nodes.data),
        }
    return tables


def _table(digest: str, name: str, content: Callable[[], memoryview]) -> Table:
    shape = abi.MAPS[OBJECT][name]
    path = table_path(digest_of(digest, shape), name)
    return Table(path, shape.value_bytes, content=content)


def list_knobs(listed: AddressSet, maps: Sequence[Map]) -> Knobs:
    knobs: Knobs = {
        "has_set4": int(len(listed.v4) > 0),
        "has_set6": int(len(listed.v6) > 0),
        "user4_lists": sum(is_list_of(found, 4) for found in maps),
        "user6_lists": sum(is_list_of(found, 6) for found in maps),
    }
    if len(listed.v6):
        base = level_base(listed.v6)
        knobs["set6_filter_bits"] = filter_bits(listed.v6)
        knobs["set6_levels"] = len(base)
        knobs["set6_level_base"] = (*base, *(0,) * (abi.Size.SET6_LEVELS - len(base)))
    return knobs


def is_list_of(found: Map, version: int) -> bool:
    """Whether a user's map can be a blacklist of that IP version."""
    shape = (found.type, found.key_bytes, found.value_bytes)
    return shape == (MapType.LPM_TRIE, KEY_BYTES[version], 4)


def user_lists(maps: Sequence[Map]) -> dict[str, str]:
    bound: dict[str, str] = {}
    for version in KEY_BYTES:
        lists = sorted(found.path for found in maps if is_list_of(found, version))
        bound |= {f"user{version}_{i}": path for i, path in enumerate(lists)}
    return bound
