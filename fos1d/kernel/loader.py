"""Loading programs: knobs into .rodata, maps bound to pins, the verifier's log in the error."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ctypes import c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fos1d.errors import KernelError, SourceProgramError, Unsupported, VerifierError
from fos1d.kernel import bpf, libbpf
from fos1d.kernel.bcc_source import load_bcc
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.libbpf import call, captured, error_of, lib
from fos1d.kernel.wrap import wrapped
from fos1d.model.objects import (
    BuiltIn,
    Map,
    MapType,
    Next,
    Program,
    UserObject,
    UserSource,
    key_of,
)

OBJECTS = Path(__file__).parent.parent / "objects"
LOG_BYTES = 16 * 1024 * 1024 - 1
PROG_TYPE_XDP = 6
EXPECTED_XDP = 37
XDP_HAS_FRAGS = 1 << 5
NOTHING: Mapping[str, Fd] = {}
BTF_KIND_VAR, BTF_KIND_DATASEC = 14, 15


@cache
def object_digests() -> dict[str, str]:
    """Return the digest of each of our object files, by name without `.bpf.o`.

    Raises Unsupported where the package came without them.
    """
    files = sorted(OBJECTS.glob("*.bpf.o"))
    if not files:
        raise Unsupported(f"no compiled programs in {OBJECTS}; in a checkout, run: make setup")
    return {
        file.name.removesuffix(".bpf.o"): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def load(program: Program, bpffs: Bpffs, instead: Mapping[str, Fd] = NOTHING) -> Fd:
    """Load a program; nothing runs it yet. `instead` are maps in place of those at some pins.

    Raises VerifierError with the log, SourceProgramError for a user's faulty source, KernelError.
    """
    match program.code:
        case BuiltIn(object=name, function=function):
            path = OBJECTS / f"{name}.bpf.o"
            return _load_object(program, path.read_bytes(), path.name, function, bpffs, instead)
        case UserObject() as code:
            return _load_object(program, code.read(), code.path, code.function, bpffs, instead)
        case UserSource() as code:
            with _chain(program.successor, bpffs) as chain:
                return load_bcc(code, program.hook, chain)


@contextmanager
def _chain(successor: Next | None, bpffs: Bpffs) -> Iterator[tuple[int, int] | None]:
    """Open the successor's chain: its descriptor and slot."""
    if successor is None:
        yield None
        return
    with bpffs.open(successor.chain) as fd:
        yield fd.number, successor.slot


@dataclass(frozen=True, slots=True)
class _Object:
    """An opened object file of libbpf."""

    pointer: int
    name: str

    def maps(self) -> Iterator[tuple[str, int]]:
        """Yield the maps: name and struct bpf_map."""
        current = lib().bpf_object__next_map(self.pointer, None)
        while current:
            yield lib().bpf_map__name(current).decode(), current
            current = lib().bpf_object__next_map(self.pointer, current)

    def programs(self) -> dict[str, int]:
        """Return the programs: name to struct bpf_program."""
        found: dict[str, int] = {}
        current = lib().bpf_object__next_program(self.pointer, None)
        while current:
            found[lib().bpf_program__name(current).decode()] = current
            current = lib().bpf_object__next_program(self.pointer, current)
        return found


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[_Object]:
    opts = libbpf.ObjectOpenOpts(
        sz=ctypes.sizeof(libbpf.ObjectOpenOpts), object_name=bpf.label(name)
    )
    with captured() as lines:
        pointer = lib().bpf_object__open_mem(data, len(data), ctypes.byref(opts))
    if not pointer:
        why = "; ".join(lines) or "no BPF object file"
        raise SourceProgramError(f"{name}: {why}; compile it with clang -target bpf -g")
    try:
        yield _Object(pointer, name)
    finally:
        lib().bpf_object__close(pointer)


def _load_object(
    program: Program,
    data: bytes,
    name: str,
    function: str,
    bpffs: Bpffs,
    instead: Mapping[str, Fd],
) -> Fd:
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(data, name))
        handle = _choose(opened, function)
        _set_knobs(opened, program)
        # To bind a map is to change its name.
        ours = [pointer for name, pointer in opened.maps() if name in dict(program.maps)]
        fresh = _bind_maps(opened, program, bpffs, stack, instead)
        if isinstance(program.code, UserObject):
            _without_frags(handle, program)
        _load_into_kernel(opened, handle)
        if isinstance(program.code, BuiltIn):
            _hold_maps(opened, handle, ours)
        _check_bindings(opened, handle, program, bpffs)
        for path, pointer in fresh:
            with _duplicate(lib().bpf_map__fd(pointer)) as made:
                bpffs.put(made, path)
        if program.successor is None or isinstance(program.code, BuiltIn):
            return _duplicate(lib().bpf_program__fd(handle))
        with _chain(program.successor, bpffs) as chain:
            return _load_wrapped(handle, function, chain)


def _duplicate(number: int) -> Fd:
    """Return a descriptor that outlives the libbpf object."""
    return Fd(os.dup(number))


def _choose(opened: _Object, function: str) -> int:
    """Return the wanted program, and keep the object's others out of the kernel."""
    programs = opened.programs()
    if function not in programs:
        there = ", ".join(sorted(programs)) or "none"
        raise SourceProgramError(f"{opened.name} has no program `{function}`; it has: {there}")
    for name, handle in programs.items():
        lib().bpf_program__set_autoload(handle, name == function)
    return programs[function]


def _load_into_kernel(opened: _Object, handle: int) -> None:
    with mmap.mmap(-1, LOG_BYTES + 1) as log:
        memory = (ctypes.c_char * (LOG_BYTES + 1)).from_buffer(log)
        try:
            lib().bpf_program__set_log_buf(handle, ctypes.addressof(memory), LOG_BYTES)
            with captured() as lines:
                result = lib().bpf_object__load(opened.pointer)
            text = memory.value.decode("utf-8", "replace") if result < 0 else ""
        finally:
            del memory
    if result < 0:
        raise _load_error(opened.name, -result, text, lines)


def _load_error(name: str, number: int, log: str, lines: list[str]) -> KernelError:
    """Return the error for a refused load: the verifier's, if it said something."""
    if log.strip():
        tail = [line for line in log.strip().splitlines() if line.strip()]
        said = " / ".join(tail[-3:-1] or tail[-1:])
        return VerifierError(f"{name}: the verifier refused it: {said}", log, number)
    heard = "; ".join(line for line in lines if "failed" in line or "rror" in line)
    return error_of(number, f"load {name}", heard)


# Knobs


def _set_knobs(opened: _Object, program: Program) -> None:
    if not program.constants:
        return
    rodata = next((m for n, m in opened.maps() if n.endswith(".rodata")), None)
    if rodata is None:
        raise SourceProgramError(f"{opened.name} has no constants")
    size = c_size_t()
    base = lib().bpf_map__initial_value(rodata, ctypes.byref(size))
    places = _rodata_places(opened)
    for name, value in program.constants:
        if name not in places:
            raise SourceProgramError(
                f"{opened.name} has no constant `{name}`; it has: {', '.join(sorted(places))}"
            )
        offset, length = places[name]
        packed = _packed(value, length)
        ctypes.memmove(base + offset, packed, len(packed))


def _packed(value: int | tuple[int, ...], length: int) -> bytes:
    """Return a knob's bytes, in the order of this machine, which is that of its kernel."""
    values = value if isinstance(value, tuple) else (value,)
    each = length // len(values) if isinstance(value, tuple) else length
    return b"".join(v.to_bytes(each, sys.byteorder) for v in values)


class _BtfType(ctypes.Structure):
    """struct btf_type."""

    _fields_ = [
        ("name_off", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    ]


class _VarSecinfo(ctypes.Structure):
    """struct btf_var_secinfo."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    ]


def _rodata_places(opened: _Object) -> dict[str, tuple[int, int]]:
    """Return each constant's offset and size in .rodata, from the object's BTF."""
    btf = lib().bpf_object__btf(opened.pointer)
    section = lib().btf__find_by_name_kind(btf, b".rodata", BTF_KIND_DATASEC) if btf else -1
    if section < 0:
        return {}
    pointer = lib().btf__type_by_id(btf, section)
    count = _BtfType.from_address(pointer).info & 0xFFFF
    rows = (_VarSecinfo * count).from_address(pointer + ctypes.sizeof(_BtfType))
    places = {}
    for row in rows:
        variable = _BtfType.from_address(lib().btf__type_by_id(btf, row.type))
        name = lib().btf__name_by_offset(btf, variable.name_off).decode()
        places[name] = (row.offset, row.size)
    return places


# Maps


def _bind_maps(
    opened: _Object,
    program: Program,
    bpffs: Bpffs,
    stack: ExitStack,
    instead: Mapping[str, Fd],
) -> list[tuple[str, int]]:
    """Bind the object's maps to pins; return those of a user's object that are yet to be pinned.

    A map of ours that nothing is bound to is not created: the knobs make its code dead.
    """
    bound: Mapping[str, str] = dict(program.maps)
    fresh: list[tuple[str, int]] = []
    for name, pointer in opened.maps():
        if lib().bpf_map__is_internal(pointer):
            continue
        if name in bound:
            path = bound[name]
            fd = instead[path] if path in instead else stack.enter_context(bpffs.open(path))
            _reuse(opened, name, pointer, path, fd)
        elif isinstance(program.code, BuiltIn):
            lib().bpf_map__set_autocreate(pointer, False)
        else:
            path = _own_map(program, name, pointer)
            if bpffs.exists(path):
                _reuse(opened, name, pointer, path, stack.enter_context(bpffs.open(path)))
            else:
                fresh.append((path, pointer))
    return fresh


def _hold_maps(opened: _Object, handle: int, maps: Iterable[int]) -> None:
    """Have a program hold all maps that it is bound to, as its pin says: by itself it gets those
    that its code names, of all that its object has."""
    number = lib().bpf_program__fd(handle)
    for pointer in maps:
        what = f"have {opened.name} hold its maps"
        call("bpf_prog_bind_map", number, lib().bpf_map__fd(pointer), None, what=what)


def _check_bindings(opened: _Object, handle: int, program: Program, bpffs: Bpffs) -> None:
    """See that a user's program really uses the maps that say so."""
    if isinstance(program.code, BuiltIn):
        return
    with _duplicate(lib().bpf_program__fd(handle)) as made:
        used = bpf.program_info(made).map_ids
    for name, path in program.maps:
        with bpffs.open(path) as fd:
            if bpf.map_info(fd).id not in used:
                there = ", ".join(sorted(n for n, _ in opened.maps() if "." not in n)) or "none"
                raise SourceProgramError(
                    f"{opened.name}: the program uses no map `{name}`, which accessedBy binds to "
                    f"it; its object has: {there}"
                )


def _own_map(program: Program, name: str, pointer: int) -> str:
    """Return the pin of a map that a user's object brings: beside its program, named by shape."""
    shape = Map(
        f"{program.family}/~{name.replace('.', ':')}",
        MapType.HASH,
        lib().bpf_map__key_size(pointer),
        lib().bpf_map__value_size(pointer),
        lib().bpf_map__max_entries(pointer),
        lib().bpf_map__map_flags(pointer),
    )
    kind = lib().bpf_map__type(pointer)
    return f"{shape.family}-{kind}-{key_of(shape).name.rsplit('/', 1)[-1].split('-', 1)[-1]}"


def _reuse(opened: _Object, name: str, pointer: int, path: str, fd: Fd) -> None:
    declared = (lib().bpf_map__key_size(pointer), lib().bpf_map__value_size(pointer))
    info = bpf.map_info(fd)
    if declared != (info.key_bytes, info.value_bytes):
        raise SourceProgramError(
            f"{opened.name}: its map `{name}` has keys of {declared[0]} and values of "
            f"{declared[1]} bytes, the map {path} has {info.key_bytes} and {info.value_bytes}"
        )
    call("bpf_map__reuse_fd", pointer, fd.number, what=f"bind `{name}` to {path}")


# A user's program before another one


def _without_frags(handle: int, program: Program) -> None:
    """In a chain, all programs must agree on fragments, and ours have none there."""
    if program.successor is not None:
        flags = lib().bpf_program__flags(handle)
        lib().bpf_program__set_flags(handle, flags & ~XDP_HAS_FRAGS)


def _load_wrapped(handle: int, function: str, chain: tuple[int, int] | None) -> Fd:
    if chain is None:
        raise Unsupported("a program without a chain is not wrapped")
    count = lib().bpf_program__insn_cnt(handle)
    code = ctypes.string_at(lib().bpf_program__insns(handle), count * 8)
    return load_instructions(wrapped(code, *chain), function)


def load_instructions(code: bytes, name: str) -> Fd:
    """Load XDP instructions whose map descriptors are in place."""
    log = ctypes.create_string_buffer(1 << 20)
    opts = libbpf.ProgLoadOpts(
        sz=ctypes.sizeof(libbpf.ProgLoadOpts),
        expected_attach_type=EXPECTED_XDP,
        log_level=1,
        log_size=len(log),
        log_buf=ctypes.cast(log, c_void_p),
    )
    result = lib().bpf_prog_load(
        PROG_TYPE_XDP, bpf.label(name), b"GPL", code, len(code) // 8, ctypes.byref(opts)
    )
    if result < 0:
        raise _load_error(name, -result, log.value.decode("utf-8", "replace"), [])
    return Fd(result)
