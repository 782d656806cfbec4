"""Programs of the bench: compiled here and now, loaded by libbpf, run by hand."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fos1d.kernel import bpf, contents, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.libbpf import call, captured
from tests.lab import command

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench"
ARCH = {"x86_64": "x86", "aarch64": "arm64"}
LIVE_FRAMES = 1 << 1
ETHERNET_BYTES = 14


@cache
def compiler() -> str:
    """Return the clang that compiles for BPF.

    Raises RuntimeError where there is none.
    """
    for name in ("clang-19", "clang"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("no clang here; install it: make setup")


@cache
def compiled(name: str) -> Path:
    """Compile tests/bench/NAME.bpf.c and return the object file."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / f"{name}.bpf.o"
    arch = ARCH.get(platform.machine(), platform.machine())
    flags = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", f"-D__TARGET_ARCH_{arch}"]
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    command(compiler(), *flags, include, "-c", str(HERE / f"{name}.bpf.c"), "-o", str(target))
    return target


@cache
def compiled_c(name: str) -> Path:
    """Compile tests/bench/NAME.c with libbpf and return the program."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / name
    source = str(HERE / f"{name}.c")
    command("gcc", "-O2", "-Wall", "-Werror", "-o", str(target), source, "-lbpf")
    return target


@cache
def lib() -> ctypes.CDLL:
    """Return libbpf with the calls that only the bench needs."""
    library = libbpf.lib()
    for name, result, arguments in (
        ("bpf_object__find_program_by_name", c_void_p, [c_void_p, c_char_p]),
        ("bpf_object__find_map_by_name", c_void_p, [c_void_p, c_char_p]),
        ("bpf_map__set_max_entries", c_int, [c_void_p, ctypes.c_uint32]),
        ("bpf_program__attach", c_void_p, [c_void_p]),
        ("bpf_link__destroy", c_int, [c_void_p]),
        ("bpf_object__open_file", c_void_p, [c_char_p, c_void_p]),
        ("bpf_map_get_fd_by_id", c_int, [ctypes.c_uint32]),
        ("bpf_prog_get_fd_by_id", c_int, [ctypes.c_uint32]),
        ("bpf_xdp_query_id", c_int, [c_int, c_int, ctypes.POINTER(ctypes.c_uint32)]),
        ("bpf_map__set_initial_value", c_int, [c_void_p, c_void_p, c_size_t]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@dataclass(frozen=True, slots=True)
class Loaded:
    """An object in the kernel."""

    pointer: int

    def program(self, name: str) -> Fd:
        """Return the descriptor of a program; it belongs to the object."""
        handle = lib().bpf_object__find_program_by_name(self.pointer, name.encode())
        return Fd(os.dup(lib().bpf_program__fd(handle)))

    def map(self, name: str) -> Fd:
        """Return the descriptor of a map; it belongs to the object."""
        handle = lib().bpf_object__find_map_by_name(self.pointer, name.encode())
        return Fd(os.dup(lib().bpf_map__fd(handle)))

    @contextmanager
    def attached(self, *names: str) -> Iterator[None]:
        """Attach programs to where their sections say."""
        links = []
        try:
            for name in names:
                handle = lib().bpf_object__find_program_by_name(self.pointer, name.encode())
                with captured() as said:
                    links.append(lib().bpf_program__attach(handle))
                if not links[-1]:
                    raise RuntimeError(f"{name} cannot be attached: {'; '.join(said)}")
            yield
        finally:
            for link in filter(None, links):
                lib().bpf_link__destroy(link)


@contextmanager
def loaded(
    name: str,
    constants: bytes = b"",
    sizes: Mapping[str, int] | None = None,
    shared: Mapping[str, Fd] | None = None,
) -> Iterator[Loaded]:
    """Load an object: `constants` are its .rodata as a whole, `sizes` the entries of its maps,
    `shared` maps that another one has."""
    library = lib()
    with captured() as said:
        pointer = library.bpf_object__open_file(os.fsencode(compiled(name)), None)
        if not pointer:
            raise RuntimeError(f"{name} cannot be opened: {'; '.join(said)}")
        try:
            found = Loaded(pointer)
            _prepare(pointer, constants, sizes or {}, shared or {})
            if library.bpf_object__load(pointer) < 0:
                raise RuntimeError(f"{name} cannot be loaded: {'; '.join(said)}")
            yield found
        finally:
            library.bpf_object__close(pointer)


def _prepare(
    pointer: int, constants: bytes, sizes: Mapping[str, int], shared: Mapping[str, Fd]
) -> None:
    def handle(name: str) -> int:
        return int(lib().bpf_object__find_map_by_name(pointer, name.encode()))

    if constants:
        size = c_size_t()
        base = lib().bpf_map__initial_value(handle(".rodata"), ctypes.byref(size))
        ctypes.memmove(base, constants, min(len(constants), size.value))
    for name, entries in sizes.items():
        lib().bpf_map__set_max_entries(handle(name), entries)
    for name, fd in shared.items():
        call("bpf_map__reuse_fd", handle(name), fd.number, what=f"share the map {name}")


def test_run(
    program: Fd, frame: bytes, repeat: int, live: bool = False, ingress: int = 0
) -> tuple[int, float]:
    """Run a program `repeat` times; return its last verdict and the mean ns of a run.

    `live` frames go where the verdict sends them, and have neither verdict nor time. `ingress` is
    the interface that the frame seems to come in on.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    context = struct.pack("=6I", 0, len(frame), 0, ingress, 0, 0)
    opts = libbpf.TestRunOpts(
        sz=ctypes.sizeof(libbpf.TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        repeat=repeat,
        batch_size=60 if live else 0,
        flags=LIVE_FRAMES if live else 0,
    )
    buffer = ctypes.create_string_buffer(context, len(context))
    if ingress:
        opts.ctx_in, opts.ctx_size_in = ctypes.addressof(buffer), len(context)
    what = f"run a program {repeat} times"
    call("bpf_prog_test_run_opts", program.number, ctypes.byref(opts), what=what)
    return int(opts.retval), float(opts.duration)


def map_by_id(number: int) -> Fd:
    """Open a map by id."""
    return Fd(call("bpf_map_get_fd_by_id", number, what=f"open the map {number}"))


def program_by_id(number: int) -> Fd:
    """Open a program by id."""
    return Fd(call("bpf_prog_get_fd_by_id", number, what=f"open the program {number}"))


def write_elements(fd: Fd, content: bytes) -> None:
    """Fill an mmapable array."""
    contents.write_array(fd, memoryview(content))


def read_elements(fd: Fd) -> bytes:
    """Read an mmapable array."""
    return contents.read_array(fd, bpf.map_info(fd))
