"""libbpf.so.1 through ctypes: prototypes, errors, and what it prints.

Nothing outside kernel/ may use this. libbpf 1.x returns a negative errno and sets errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache

from fos1d.errors import HeldByOther, KernelError, PermissionMissing, Unsupported

Prototype = tuple[object, list[object]]


class ObjectOpenOpts(ctypes.Structure):
    """struct bpf_object_open_opts, its first two fields."""

    _fields_ = [("sz", c_size_t), ("object_name", c_char_p)]


class MapCreateOpts(ctypes.Structure):
    """struct bpf_map_create_opts up to map_flags."""

    _fields_ = [
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    ]


class ProgLoadOpts(ctypes.Structure):
    """struct bpf_prog_load_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
        ("fd_array", c_void_p),
        ("func_info", c_void_p),
        ("func_info_cnt", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("line_info", c_void_p),
        ("line_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_void_p),
    ]


class TestRunOpts(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class XdpAttachOpts(ctypes.Structure):
    """struct bpf_xdp_attach_opts."""

    _fields_ = [("sz", c_size_t), ("old_prog_fd", c_int), ("pad", c_int)]


class LinkUpdateOpts(ctypes.Structure):
    """struct bpf_link_update_opts."""

    _fields_ = [("sz", c_size_t), ("flags", c_uint32), ("old_prog_fd", c_uint32)]


class TcHook(ctypes.Structure):
    """struct bpf_tc_hook."""

    _fields_ = [
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
        ("pad", c_uint32),
    ]


class TcOpts(ctypes.Structure):
    """struct bpf_tc_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
        ("pad", c_uint32),
    ]


RingFn = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
PrintFn = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

PROTOTYPES: dict[str, Prototype] = {
    "bpf_map_create": (
        c_int,
        [c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(MapCreateOpts)],
    ),
    "bpf_map_lookup_elem": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_lookup_and_delete_elem": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_void_p, c_void_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_void_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_freeze": (c_int, [c_int]),
    "bpf_map_update_batch": (c_int, [c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_map_delete_batch": (c_int, [c_int, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_map_lookup_batch": (
        c_int,
        [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p],
    ),
    "bpf_obj_pin": (c_int, [c_int, c_char_p]),
    "bpf_obj_get": (c_int, [c_char_p]),
    "bpf_obj_get_info_by_fd": (c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    "bpf_prog_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_prog_load": (
        c_int,
        [c_int, c_char_p, c_char_p, c_void_p, c_size_t, POINTER(ProgLoadOpts)],
    ),
    "bpf_prog_test_run_opts": (c_int, [c_int, POINTER(TestRunOpts)]),
    "bpf_link_create": (c_int, [c_int, c_int, c_int, c_void_p]),
    "bpf_link_update": (c_int, [c_int, c_int, POINTER(LinkUpdateOpts)]),
    "bpf_link_detach": (c_int, [c_int]),
    "bpf_xdp_attach": (c_int, [c_int, c_int, c_uint32, POINTER(XdpAttachOpts)]),
    "bpf_tc_hook_create": (c_int, [POINTER(TcHook)]),
    "bpf_tc_attach": (c_int, [POINTER(TcHook), POINTER(TcOpts)]),
    "bpf_tc_detach": (c_int, [POINTER(TcHook), POINTER(TcOpts)]),
    "bpf_tc_query": (c_int, [POINTER(TcHook), POINTER(TcOpts)]),
    "bpf_object__open_mem": (c_void_p, [c_char_p, c_size_t, POINTER(ObjectOpenOpts)]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__btf": (c_void_p, [c_void_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__is_internal": (ctypes.c_bool, [c_void_p]),
    "bpf_map__reuse_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__set_autocreate": (c_int, [c_void_p, ctypes.c_bool]),
    "bpf_map__initial_value": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "bpf_map__type": (c_int, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__map_flags": (c_uint32, [c_void_p]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_prog_bind_map": (c_int, [c_int, c_int, c_void_p]),
    "bpf_program__type": (c_int, [c_void_p]),
    "bpf_program__flags": (c_uint32, [c_void_p]),
    "bpf_program__set_flags": (c_int, [c_void_p, c_uint32]),
    "bpf_program__set_autoload": (c_int, [c_void_p, ctypes.c_bool]),
    "bpf_program__set_log_buf": (c_int, [c_void_p, c_void_p, c_size_t]),
    "bpf_program__insns": (c_void_p, [c_void_p]),
    "bpf_program__insn_cnt": (c_size_t, [c_void_p]),
    "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
    "btf__type_by_id": (c_void_p, [c_void_p, c_uint32]),
    "btf__name_by_offset": (c_char_p, [c_void_p, c_uint32]),
    "ring_buffer__new": (c_void_p, [c_int, RingFn, c_void_p, c_void_p]),
    "ring_buffer__epoll_fd": (c_int, [c_void_p]),
    "ring_buffer__consume": (c_int, [c_void_p]),
    "ring_buffer__free": (None, [c_void_p]),
    "libbpf_set_print": (c_void_p, [c_void_p]),
}

LIBBPF_DEBUG = 2

_captured = threading.local()


@cache
def lib() -> ctypes.CDLL:
    """Return the library, its prototypes set and its messages redirected.

    Raises Unsupported where it is not installed.
    """
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise Unsupported(f"libbpf.so.1 cannot be loaded ({error}); install libbpf1") from error
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(ctypes.cast(_print, c_void_p))
    return library


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _capture(level: int, template: bytes, arguments: int) -> int:
    lines = None if level >= LIBBPF_DEBUG else getattr(_captured, "lines", None)
    if lines is not None:
        # va_list is passed by reference in the x86-64 and aarch64 calling conventions.
        buffer = ctypes.create_string_buffer(4096)
        _libc().vsnprintf(buffer, len(buffer), template, c_void_p(arguments))
        lines.append(buffer.value.decode("utf-8", "replace").strip())
    return 0


_print = PrintFn(_capture)


@contextmanager
def captured() -> Iterator[list[str]]:
    """Collect what libbpf prints in this thread."""
    lines: list[str] = []
    _captured.lines = lines
    try:
        yield lines
    finally:
        _captured.lines = None


KERNEL_MESSAGE = "Kernel error message: "


def extack(lines: list[str]) -> str:
    """Return the kernel's own words (netlink extack) among libbpf's lines, or nothing."""
    said = [line.partition(KERNEL_MESSAGE)[2] for line in lines if KERNEL_MESSAGE in line]
    return "; ".join(said)


def call(name: str, *arguments: object, what: str) -> int:
    """Call a libbpf function that returns an int.

    Raises KernelError (or a subclass by errno) saying `what` could not be done.
    """
    lines: list[str] = []
    _captured.lines = lines
    result = int(getattr(lib(), name)(*arguments))
    _captured.lines = None
    if result < 0:
        raise error_of(-result, what, extack(lines))
    return result


def error_of(number: int, what: str, said: str = "") -> KernelError:
    """Return the error for an errno, with the kernel's own words if it said any."""
    why = f"{what}: {os.strerror(number)} ({errno.errorcode.get(number, number)})"
    if said:
        why = f"{why}: the kernel says: {said}"
    match number:
        case errno.EPERM | errno.EACCES:
            needed = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
            return PermissionMissing(f"{why}; the daemon needs {needed}", number)
        case errno.EOPNOTSUPP | errno.ENOSYS:
            return Unsupported(f"{why}; this kernel or driver does not support it", number)
        case errno.EBUSY | errno.EEXIST:
            return HeldByOther(why, number)
        case _:
            return KernelError(why, number)
