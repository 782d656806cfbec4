"""bpf(2) as values: file descriptors, pins, what the kernel says of maps, programs and links."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from fos1d.errors import Unsupported
from fos1d.kernel import libbpf
from fos1d.kernel.libbpf import call
from fos1d.model.objects import Map, MapType


class Fd:
    """An open file descriptor that closes with its block, or with the last that holds it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> Fd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it, once."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


@dataclass(frozen=True, slots=True)
class MapInfo:
    """struct bpf_map_info, what we use of it."""

    id: int
    type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int
    name: str


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """struct bpf_prog_info, what we use of it. `tag` is the kernel's digest of the code."""

    id: int
    type: int
    tag: str
    name: str
    map_ids: tuple[int, ...]
    xlated_bytes: int
    verified_insns: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """struct bpf_link_info of a TCX link; interface is 0 once its device is gone."""

    id: int
    program_id: int
    interface: int
    attach_type: int


@dataclass(frozen=True, slots=True)
class CgroupLinkInfo:
    """struct bpf_link_info of a link to a cgroup; cgroup_id is 0 once the cgroup is gone."""

    id: int
    program_id: int
    cgroup_id: int
    attach_type: int


MAP_INFO = struct.Struct("=6I16s")
PROGRAM_INFO_BYTES = 232
LINK_INFO_BYTES = 64
MOST_MAP_IDS = 64


def get(path: str | Path) -> Fd:
    """Open a pinned object."""
    return Fd(call("bpf_obj_get", os.fsencode(path), what=f"open the pin {path}"))


def pin(fd: Fd, path: Path) -> None:
    """Pin an object; the path must be free."""
    call("bpf_obj_pin", fd.number, os.fsencode(path), what=f"pin at {path}")


def _info(fd: Fd, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
    size = ctypes.c_uint32(len(buffer))
    what = "ask the kernel about a BPF object"
    call("bpf_obj_get_info_by_fd", fd.number, buffer, ctypes.byref(size), what=what)
    return buffer.raw


def map_info(fd: Fd) -> MapInfo:
    """Describe a map."""
    raw = _info(fd, ctypes.create_string_buffer(MAP_INFO.size))
    kind, number, key, value, entries, flags, name = MAP_INFO.unpack(raw)
    return MapInfo(number, kind, key, value, entries, flags, _name(name))


def program_info(fd: Fd) -> ProgramInfo:
    """Describe a program."""
    ids = (ctypes.c_uint32 * MOST_MAP_IDS)()
    buffer = ctypes.create_string_buffer(PROGRAM_INFO_BYTES)
    struct.pack_into("=IQ", buffer, 52, MOST_MAP_IDS, ctypes.addressof(ids))
    raw = _info(fd, buffer)
    kind, number, tag, _, xlated = struct.unpack_from("=II8sII", raw)
    (count,) = struct.unpack_from("=I", raw, 52)
    (name,) = struct.unpack_from("=16s", raw, 64)
    (verified,) = struct.unpack_from("=I", raw, 216)
    used = tuple(ids[: min(count, MOST_MAP_IDS)])
    return ProgramInfo(number, kind, tag.hex(), _name(name), used, xlated, verified)


def link_info(fd: Fd) -> LinkInfo:
    """Describe a TCX link."""
    raw = _info(fd, ctypes.create_string_buffer(LINK_INFO_BYTES))
    _, number, program, _, interface, attach_type = struct.unpack_from("=6I", raw)
    return LinkInfo(number, program, interface, attach_type)


def cgroup_link_info(fd: Fd) -> CgroupLinkInfo:
    """Describe a link to a cgroup."""
    raw = _info(fd, ctypes.create_string_buffer(LINK_INFO_BYTES))
    _, number, program, _, cgroup, attach_type = struct.unpack_from("=4IQI", raw)
    return CgroupLinkInfo(number, program, cgroup, attach_type)


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def fd_facts(fd: Fd) -> dict[str, str]:
    """Return what /proc says of a BPF descriptor: `frozen`, `memlock` in bytes, and so on."""
    text = Path(f"/proc/self/fdinfo/{fd.number}").read_text()
    rows = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def is_frozen(fd: Fd) -> bool:
    """Whether user space can write a map no more."""
    return fd_facts(fd).get("frozen") == "1"


def create_map(shape: Map) -> Fd:
    """Create an empty map."""
    opts = libbpf.MapCreateOpts(sz=ctypes.sizeof(libbpf.MapCreateOpts), map_flags=shape.flags)
    name = label(shape.label or shape.family.rsplit("/", 1)[-1])
    sizes = (shape.key_bytes, shape.value_bytes, shape.max_entries)
    what = f"create the {shape.type.name.lower()} map {shape.path}"
    number = call("bpf_map_create", int(shape.type), name, *sizes, ctypes.byref(opts), what=what)
    return Fd(number)


def label(name: str) -> bytes:
    """Return a name that the kernel accepts for an object: 15 bytes of [A-Za-z0-9_.]."""
    fine = (c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return "".join(fine)[:15].encode()


def freeze(fd: Fd) -> None:
    """Forbid user space to write the map, for good."""
    call("bpf_map_freeze", fd.number, what="freeze a map")


def test_run(program: Fd, frame: bytes) -> int:
    """Run a program on a frame and return its verdict."""
    data = ctypes.create_string_buffer(frame, len(frame))
    opts = libbpf.TestRunOpts(
        sz=ctypes.sizeof(libbpf.TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        repeat=1,
    )
    what = "run a program on a canned packet"
    call("bpf_prog_test_run_opts", program.number, ctypes.byref(opts), what=what)
    return int(opts.retval)


def program_by_id(number: int) -> Fd | None:
    """Open a program by id; None without CAP_SYS_ADMIN, or if it is gone."""
    result = libbpf.lib().bpf_prog_get_fd_by_id(number)
    return Fd(result) if result >= 0 else None


SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "armv7l": 386, "ppc64le": 361}
BPF_PROG_QUERY = 16


def syscall(command: int, attributes: bytes, what: str) -> bytes:
    """Call bpf(2) itself, for what libbpf 1.1 does not know; return the attributes as filled in."""
    return _syscall(command, attributes, what)[1]


def create_by_syscall(command: int, attributes: bytes, what: str) -> Fd:
    """Call bpf(2) itself, where it makes a file descriptor."""
    return Fd(_syscall(command, attributes, what)[0])


def _syscall(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    number = SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise Unsupported(f"{what}: no bpf(2) number known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        raise libbpf.error_of(ctypes.get_errno() or errno.EINVAL, what)
    return result, buffer.raw


def shape_of(info: MapInfo, family: str) -> Map:
    """Return the map that `info` describes, as an object of `family`."""
    return Map(
        family,
        MapType(info.type),
        info.key_bytes,
        info.value_bytes,
        info.max_entries,
        info.flags,
        info.name,
    )
