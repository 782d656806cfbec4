"""A user's BPF object file -> the hooks of a cgroup that its programs are written for.

The section that a program stands in names its hook, by the words of libbpf (its "Program Types and
ELF Sections"). Only the symbols are read; whether the program is any good, the verifier says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from fos1d.kinds.program import EBPFProgram, Source
from fos1d.manifest import did_you_mean
from fos1d.model.objects import CgroupHook
from fos1d.model.snapshot import Blob
from fos1d.quantity import shown

BOTH_WAYS = (CgroupHook.INGRESS, CgroupHook.EGRESS)
SECTIONS: Mapping[str, tuple[CgroupHook, ...]] = {
    "cgroup_skb/ingress": (CgroupHook.INGRESS,),
    "cgroup_skb/egress": (CgroupHook.EGRESS,),
    "cgroup/skb": BOTH_WAYS,
    "cgroup/connect4": (CgroupHook.CONNECT4,),
    "cgroup/connect6": (CgroupHook.CONNECT6,),
    "cgroup/sendmsg4": (CgroupHook.SENDMSG4,),
    "cgroup/sendmsg6": (CgroupHook.SENDMSG6,),
    "cgroup/sock": (CgroupHook.SOCK_CREATE,),
    "cgroup/sock_create": (CgroupHook.SOCK_CREATE,),
    "cgroup/sock_release": (CgroupHook.SOCK_RELEASE,),
    "cgroup/dev": (CgroupHook.DEVICE,),
    "sockops": (CgroupHook.SOCK_OPS,),
}

# elf(5): a 64-bit ELF file for the machine EM_BPF.
MAGIC, IS_64_BIT, EM_BPF = b"\x7fELF", 2, 247
ORDERS = {1: "<", 2: ">"}
SHT_SYMTAB, SHF_EXECINSTR, STT_FUNC = 2, 4, 2
LONGEST_TEXT = 256


class NotThere(ValueError):
    """The object is good, but not its program."""


def own_source(resource: object) -> Source | None:
    """Return the source of a user's own program for cgroups, None of anything else."""
    match resource:
        case EBPFProgram(spec=spec) if spec.type == "cgroup":
            return spec.source
        case _:
            return None


@lru_cache(maxsize=64)
def cgroup_hooks(source: Source, blob: Blob) -> tuple[CgroupHook, ...]:
    """Return the hooks of a program; a BCC function names none and runs as `cgroup/skb`.

    Raises NotThere where the object has no such program for a cgroup, ValueError where it is no
    object at all.
    """
    if source.object is None:
        return BOTH_WAYS
    name, sections = str(source.program), _sections_in(blob)
    if name not in sections:
        there = ", ".join(sorted(sections)) or "none"
        near = did_you_mean(name, sections)
        raise NotThere(f"{shown(blob.path)} has no program {shown(name)}; it has: {there}{near}")
    if sections[name] not in SECTIONS:
        raise NotThere(
            f"{shown(name)} stands in section {shown(sections[name])}, which is none of a cgroup; "
            f"those are: {', '.join(SECTIONS)}"
        )
    return SECTIONS[sections[name]]


def _sections_in(blob: Blob) -> dict[str, str]:
    try:
        return program_sections(blob.read())
    except ValueError as error:
        raise ValueError(f"{shown(blob.path)} {error}") from error


def program_sections(data: bytes) -> dict[str, str]:
    """Return the section of each program of an object file.

    Raises ValueError where it is none.
    """
    try:
        return dict(_functions(data))
    except (struct.error, IndexError, ValueError) as error:
        message = "is no BPF object file; compile it with clang -O2 -g -target bpf"
        raise ValueError(message) from error


class _Section(NamedTuple):
    """Elf64_Shdr."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_bytes: int

    def of(self, data: bytes) -> bytes:
        return data[self.offset : self.offset + self.size]


def _functions(data: bytes) -> Iterator[tuple[str, str]]:
    order, sections, names = _sections(data)
    table = next((section for section in sections if section.type == SHT_SYMTAB), None)
    if table is None:
        raise ValueError
    words = sections[table.link].of(data)
    # Elf64_Sym: name, info, other, section, value, size.
    for name, info, _, index, _, _ in struct.iter_unpack(f"{order}IBBHQQ", table.of(data)):
        if info & 0xF != STT_FUNC or index >= len(sections):
            continue
        section = sections[index]
        place = _text(names, section.name).removeprefix("?")
        if section.flags & SHF_EXECINSTR and place != ".text":
            yield _text(words, name), place


def _sections(data: bytes) -> tuple[str, list[_Section], bytes]:
    """Return the byte order, the sections, and the strings that hold their names."""
    if data[:4] != MAGIC or data[4] != IS_64_BIT or data[5] not in ORDERS:
        raise ValueError
    order = ORDERS[data[5]]
    (machine,) = struct.unpack_from(f"{order}H", data, 18)
    (offset,) = struct.unpack_from(f"{order}Q", data, 40)
    size, count, names = struct.unpack_from(f"{order}HHH", data, 58)
    shape = struct.Struct(f"{order}IIQQQQIIQQ")
    if machine != EM_BPF or size != shape.size:
        raise ValueError
    headers = data[offset : offset + size * count]
    sections = [_Section(*fields) for fields in shape.iter_unpack(headers)]
    return order, sections, sections[names].of(data)


def _text(strings: bytes, at: int) -> str:
    return strings[at : at + LONGEST_TEXT].partition(b"\0")[0].decode("ascii", "replace")
