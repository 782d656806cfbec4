"""Flags of maps: the kernel's names and bits, and which type of map takes which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fos1d.manifest import did_you_mean
from fos1d.quantity import shown, shown_number

NO_PREALLOC = 1 << 0

BITS: Mapping[str, int] = {
    "no_prealloc": NO_PREALLOC,
    "no_common_lru": 1 << 1,
    "rdonly_prog": 1 << 7,
    "wronly_prog": 1 << 8,
    "mmapable": 1 << 10,
    "preserve_elems": 1 << 11,
}
REFUSED: Mapping[str, tuple[int, str]] = {
    "numa_node": (1 << 2, "the node cannot be named here"),
    "rdonly": (1 << 3, "the daemon itself writes the map"),
    "wronly": (1 << 4, "the daemon itself reads the map"),
    "stack_build_id": (1 << 5, "it belongs to stack traces"),
    "zero_seed": (1 << 6, "it makes hash collisions easy to force"),
    "clone": (1 << 9, "it belongs to socket storage"),
    "inner_map": (1 << 12, "maps of maps are not declared here"),
}
ACCESS = BITS["rdonly_prog"] | BITS["wronly_prog"]
ACCEPTED: Mapping[str, int] = {
    "hash": ACCESS | NO_PREALLOC,
    "percpu_hash": ACCESS | NO_PREALLOC,
    "lru_hash": ACCESS | BITS["no_common_lru"],
    "lpm_trie": ACCESS | NO_PREALLOC,
    "array": ACCESS | BITS["mmapable"],
    "percpu_array": ACCESS,
    "stack": ACCESS,
    "queue": ACCESS,
    "ringbuf": 0,
    "perf_event_array": BITS["preserve_elems"],
}


def parse_flags(value: int | list[Any]) -> int:
    """Return the bits of a number or of a list of names. Raises ValueError."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 32:
            raise ValueError(f"{shown_number(value)} is out of range; flags have 32 bits")
        return int(value)
    bits = 0
    for name in value:
        bits |= _bit(name)
    return bits


def _bit(name: object) -> int:
    if not isinstance(name, str):
        raise ValueError(f"a flag is a name, one of {', '.join(BITS)}")
    short = name.lower().removeprefix("bpf_f_")
    if short in REFUSED:
        raise ValueError(f"the flag {shown(name)} is not accepted: {REFUSED[short][1]}")
    if short not in BITS:
        hint = did_you_mean(short, BITS) or ";"
        raise ValueError(f"no flag is named {shown(name)}{hint} flags: {', '.join(BITS)}")
    return BITS[short]


def flag_fault(type_name: str, flags: int) -> str | None:
    """Say what is wrong with the flags of a map of this type, if anything is."""
    accepted = ACCEPTED[type_name]
    if wrong := flags & ~accepted:
        takes = ", ".join(names_of(accepted)) or "no flags"
        refused = " and ".join(names_of(wrong))
        return f"type {type_name} does not take {refused}; it takes {takes}"
    if flags & ACCESS == ACCESS:
        return "rdonly_prog and wronly_prog exclude each other; keep one"
    return None


def names_of(flags: int) -> list[str]:
    """Return the names of the bits that are set, a number for one without a name."""
    known = {bit: name for name, bit in BITS.items()}
    known |= {bit: name for name, (bit, _) in REFUSED.items()}
    return [known.get(1 << i, hex(1 << i)) for i in range(32) if flags >> i & 1]
