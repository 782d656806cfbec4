"""Maps in the hands of built-in programs: an lpm_trie is a list of sources to drop."""

from __future__ import annotations

from collections.abc import Iterator

from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.entries import prefix_length
from fos1d.kinds.map import EBPFMap, MapSpec
from fos1d.kinds.map_flags import BITS
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.program_settings import PACKET_HOOKS
from fos1d.manifest import Loc
from fos1d.model.diagnostic import Severity
from fos1d.quantity import shown

FAMILY_OF_KEY = {8: 4, 20: 6}
VALUE_BYTES = 4


def unfit(spec: MapSpec) -> str | None:
    """Say why a map cannot be a blacklist, if it cannot."""
    if spec.type != "lpm_trie":
        return f"its type is {spec.type}, not lpm_trie"
    if spec.key_size not in FAMILY_OF_KEY:
        return f"its keySize is {spec.key_size}, not 8 (IPv4) or 20 (IPv6)"
    if spec.value_size != VALUE_BYTES:
        return f"its valueSize is {spec.value_size}, not {VALUE_BYTES}"
    if spec.flags & BITS["wronly_prog"]:
        return "its flag wronly_prog keeps programs from reading it"
    return None


def blacklist_map(
    declaration: Declaration, loc: Loc, target: Declaration, spec: MapSpec
) -> Iterator[Found]:
    """Check the map that a program's `mapRef` names."""
    if reason := unfit(spec):
        name = shown(target.id.name)
        message = f"EBPFMap {name} cannot be a blacklist: {reason} ({target.origin})"
        yield Found(declaration, loc, message)
    elif index := dropping_all(spec):
        message = f"EBPFMap {shown(target.id.name)} would drop every packet: initData[{index[0]}]"
        yield Found(declaration, loc, f"{message} has the prefix length 0 ({target.origin})")


def accessed_map(
    declaration: Declaration, loc: Loc, source: EBPFMap, program: EBPFProgram
) -> Iterator[Found]:
    """Check a map against a program that its `accessedBy` names."""
    if program.spec.source is not None:
        return
    name, spec = shown(program.metadata.name), source.spec
    blacklist = program.spec.settings.blacklist
    if "enabled" in blacklist.model_fields_set and not blacklist.enabled:
        message = f"the blacklist of {name} is off (enabled: false), so the map is not used"
        yield Found(declaration, loc, message, Severity.WARNING)
    if program.spec.type not in PACKET_HOOKS:
        message = f"the built-in {program.spec.type} program {name} uses no declared maps"
        yield Found(declaration, loc, message, Severity.WARNING)
    elif spec.type != "lpm_trie":
        message = (
            f"the built-in program {name} uses an lpm_trie as its blacklist, and no {spec.type}"
        )
        yield Found(declaration, loc, message, Severity.WARNING)
    elif reason := unfit(spec):
        message = f"the built-in program {name} cannot use this map as its blacklist"
        yield Found(declaration, loc, f"{message}: {reason}")
    else:
        for index in dropping_all(spec):
            where = ("spec", "initData", index, "key")
            message = f"has the prefix length 0: {name} would drop every packet"
            yield Found(declaration, where, message)


def dropping_all(spec: MapSpec) -> list[int]:
    """Return the entries of a blacklist that match every source and drop it."""
    return [
        index
        for index, record in enumerate(spec.records)
        if prefix_length(record) == 0 and any(record.value)
    ]
