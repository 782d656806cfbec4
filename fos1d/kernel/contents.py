"""Map contents in bulk: batch calls where the kernel has them, one by one elsewhere.

A per-CPU map shows the value that all CPUs share; where they differ, one that differs from what
is wanted, so that it is corrected.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fos1d.errors import KernelError
from fos1d.kernel import libbpf
from fos1d.kernel.bpf import Fd, MapInfo, map_info
from fos1d.kernel.libbpf import error_of
from fos1d.model.objects import ARRAYS, PER_CPU, MapType

BATCH = 65536
BPF_NOEXIST = 1
ENOTSUPP = 524  # the kernel's own, without a name in errno
NOTHING: Mapping[bytes, bytes] = {}


@cache
def possible_cpus() -> int:
    """How many values a per-CPU element has: the CPUs that the kernel may ever see."""
    text = Path("/sys/devices/system/cpu/possible").read_text()
    return int(text.strip().split(",")[-1].split("-")[-1]) + 1


def _stride(info: MapInfo) -> int:
    """Bytes of one value as bpf(2) passes it."""
    if info.type in PER_CPU:
        return -(-info.value_bytes // 8) * 8 * possible_cpus()
    return info.value_bytes


def read_raw(fd: Fd, info: MapInfo, batch: int = BATCH) -> Iterator[tuple[bytes, bytes]]:
    """Yield packed keys and packed values of the whole map, batch by batch."""
    stride, size = _stride(info), min(max(info.max_entries, 1), batch)
    token = ctypes.create_string_buffer(max(info.key_bytes, 8))
    position = None
    while True:
        keys = ctypes.create_string_buffer(size * info.key_bytes)
        values = ctypes.create_string_buffer(size * stride)
        count = ctypes.c_uint32(size)
        result = libbpf.lib().bpf_map_lookup_batch(
            fd.number, position, token, keys, values, ctypes.byref(count), None
        )
        if result == -errno.ENOSPC:
            size *= 2
            continue
        if result not in (0, -errno.ENOENT):
            raise error_of(-result, f"read the map {info.name}")
        yield keys.raw[: count.value * info.key_bytes], values.raw[: count.value * stride]
        if result == -errno.ENOENT:
            return
        position = token


def read_whole(fd: Fd, info: MapInfo) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values; of a per-CPU map, the values of all CPUs behind each other."""
    size, stride = info.key_bytes, _stride(info)
    for keys, values in read_raw(fd, info):
        for n in range(len(keys) // size):
            yield keys[n * size : (n + 1) * size], values[n * stride : (n + 1) * stride]


def read_singly(fd: Fd, info: MapInfo) -> dict[bytes, bytes]:
    """Read a map element by element, for types without batches (program arrays)."""
    entries: dict[bytes, bytes] = {}
    key = ctypes.create_string_buffer(info.key_bytes)
    value = ctypes.create_string_buffer(_stride(info))
    previous = None
    while libbpf.lib().bpf_map_get_next_key(fd.number, previous, key) == 0:
        if libbpf.lib().bpf_map_lookup_elem(fd.number, key, value) == 0:
            entries[key.raw] = value.raw
        previous = ctypes.create_string_buffer(key.raw, info.key_bytes)
    return entries


def each_entry(fd: Fd, info: MapInfo, batch: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield a map's entries as they come, reading no more batches than are asked for."""
    zero = bytes(info.value_bytes)
    for keys, values in read_raw(fd, info, batch):
        for key, value in _rows(info, keys, values):
            shown = _shown(info, value, None)
            if info.type not in ARRAYS or shown != zero:
                yield key, shown


def read_entries(
    fd: Fd, info: MapInfo, wanted: Mapping[bytes, bytes] = NOTHING
) -> dict[bytes, bytes]:
    """Read a map. Of an array, elements of zeros count as absent unless `wanted` names them."""
    entries: dict[bytes, bytes] = {}
    for keys, values in read_raw(fd, info):
        for key, value in _rows(info, keys, values):
            entries[key] = _shown(info, value, wanted.get(key))
    if info.type in ARRAYS:
        zero = bytes(info.value_bytes)
        entries = {k: v for k, v in entries.items() if v != zero or k in wanted}
    return entries


def _shown(info: MapInfo, value: bytes, wanted: bytes | None) -> bytes:
    if info.type not in PER_CPU:
        return value
    step = -(-info.value_bytes // 8) * 8
    each = [value[i : i + info.value_bytes] for i in range(0, len(value), step)]
    return next((one for one in each if one != wanted), each[0])


def write_entries(fd: Fd, info: MapInfo, entries: Mapping[bytes, bytes]) -> None:
    """Write entries, whether they are there or not.

    Raises KernelError; entries before the refused one are then written.
    """
    keys = sorted(entries)
    for part in _parts(keys):
        packed = b"".join(part)
        values = b"".join(_as_passed(info, entries[key]) for key in part)
        write_raw(fd, info, packed, values)


def _as_passed(info: MapInfo, value: bytes) -> bytes:
    if info.type not in PER_CPU:
        return value
    return value.ljust(-(-info.value_bytes // 8) * 8, b"\0") * possible_cpus()


def write_raw(fd: Fd, info: MapInfo, keys: bytes, values: bytes) -> None:
    """Write packed keys and values."""
    count = ctypes.c_uint32(len(keys) // info.key_bytes)
    if not count.value:
        return
    result = libbpf.lib().bpf_map_update_batch(fd.number, keys, values, ctypes.byref(count), None)
    if result in (-ENOTSUPP, -errno.EINVAL):
        _write_singly(fd, info, keys, values)
    elif result < 0:
        raise _write_error(info, -result)


def write_raw_one(fd: Fd, info: MapInfo, key: bytes, value: bytes) -> None:
    """Write one element as bpf(2) passes it."""
    result = libbpf.lib().bpf_map_update_elem(fd.number, key, value, 0)
    if result < 0:
        raise _write_error(info, -result)


def add_entry(fd: Fd, info: MapInfo, key: bytes, value: bytes) -> None:
    """Write one element unless it is there already."""
    result = libbpf.lib().bpf_map_update_elem(fd.number, key, value, BPF_NOEXIST)
    if result not in (0, -errno.EEXIST):
        raise _write_error(info, -result)


def look_up(fd: Fd, info: MapInfo, key: bytes) -> bytes | None:
    """Return one element as bpf(2) passes it, None if it is not there."""
    value = ctypes.create_string_buffer(_stride(info))
    if libbpf.lib().bpf_map_lookup_elem(fd.number, key, value) != 0:
        return None
    return value.raw


def take(fd: Fd, info: MapInfo, key: bytes) -> bytes | None:
    """Delete one element of a hash in one step, and return what it was at that moment."""
    value = ctypes.create_string_buffer(_stride(info))
    result = libbpf.lib().bpf_map_lookup_and_delete_elem(fd.number, key, value)
    if result == -errno.ENOENT:
        return None
    if result < 0:
        raise error_of(-result, f"delete from the map {info.name}")
    return value.raw


def _write_error(info: MapInfo, number: int) -> KernelError:
    if number not in (errno.E2BIG, errno.ENOSPC):
        return error_of(number, f"write to the map {info.name}")
    return KernelError(
        f"the map {info.name} is full (maxEntries {info.max_entries}): others' entries leave no"
        " room for the declared ones; raise maxEntries, or say exclusive: true",
        number,
    )


def _write_singly(fd: Fd, info: MapInfo, keys: bytes, values: bytes) -> None:
    for key, value in _rows(info, keys, values):
        write_raw_one(fd, info, key, value)


def delete_entries(fd: Fd, info: MapInfo, keys: Iterable[bytes]) -> None:
    """Delete entries; those that are gone already do not matter. Array elements become zeros."""
    if info.type in ARRAYS:
        write_entries(fd, info, dict.fromkeys(keys, bytes(info.value_bytes)))
        return
    for key in keys:
        result = libbpf.lib().bpf_map_delete_elem(fd.number, key)
        if result not in (0, -errno.ENOENT):
            raise error_of(-result, f"delete from the map {info.name}")


def _parts(keys: list[bytes]) -> Iterator[list[bytes]]:
    for begin in range(0, len(keys), BATCH):
        yield keys[begin : begin + BATCH]


def copy_entries(
    source: Fd, target: Fd, but: Collection[bytes] = (), only_missing: bool = False
) -> None:
    """Copy the entries of one map into another as far as they fit, `but` those of some keys; keys
    have the same size.

    Array elements of zeros are no entries. Between a per-CPU map and another kind, the value of
    the first CPU stands for all.
    """
    info, target_info = map_info(source), map_info(target)
    flag = BPF_NOEXIST if only_missing else 0
    for keys, values in read_raw(source, info):
        for key, value in _rows(info, keys, values):
            if key in but or (info.type in ARRAYS and not any(value)):
                continue
            passed = _converted(info, target_info, value)
            libbpf.lib().bpf_map_update_elem(target.number, key, passed, flag)


def move_elements(source: Fd, target: Fd) -> None:
    """Move the elements of a queue or stack into another, in their order, as far as they fit."""
    info = map_info(source)
    popped = list(pop_elements(source, info))
    for value in reversed(popped) if info.type == MapType.STACK else popped:
        libbpf.lib().bpf_map_update_elem(target.number, None, value, 0)


def push_element(fd: Fd, value: bytes) -> None:
    """Put an element into a queue or stack."""
    result = libbpf.lib().bpf_map_update_elem(fd.number, None, value, 0)
    if result < 0:
        raise _write_error(map_info(fd), -result)


def pop_elements(fd: Fd, info: MapInfo) -> Iterator[bytes]:
    """Take all elements out of a queue or stack, in its order."""
    value = ctypes.create_string_buffer(info.value_bytes)
    while libbpf.lib().bpf_map_lookup_and_delete_elem(fd.number, None, value) == 0:
        yield value.raw


def _rows(info: MapInfo, keys: bytes, values: bytes) -> Iterator[tuple[bytes, bytes]]:
    size, stride = info.key_bytes, _stride(info)
    for i in range(len(keys) // size):
        yield keys[i * size : (i + 1) * size], values[i * stride : (i + 1) * stride]


def _converted(source: MapInfo, target: MapInfo, value: bytes) -> bytes:
    """Return a value as it is passed to another map; fields that the source lacks are zero."""
    if (source.type in PER_CPU) != (target.type in PER_CPU):
        return _as_passed(target, value[: source.value_bytes])
    if source.value_bytes == target.value_bytes:
        return value
    step, width = _slot_bytes(source), _slot_bytes(target)
    slots = (value[i : i + source.value_bytes] for i in range(0, len(value), step))
    return b"".join(slot[: target.value_bytes].ljust(width, b"\0") for slot in slots)


def _slot_bytes(info: MapInfo) -> int:
    """Return the bytes of one CPU's value, or of the only one."""
    return -(-info.value_bytes // 8) * 8 if info.type in PER_CPU else info.value_bytes


def write_array(fd: Fd, content: memoryview) -> None:
    """Write an mmapable array as a whole; the kernel keeps its elements 8 bytes aligned."""
    info = map_info(fd)
    with mmap.mmap(fd.number, _mapped_bytes(info)) as memory:
        _elements(memory, info)[:] = np.frombuffer(content, np.uint8).reshape(-1, info.value_bytes)


def read_array(fd: Fd, info: MapInfo) -> bytes:
    """Read an mmapable array as a whole."""
    with mmap.mmap(fd.number, _mapped_bytes(info), mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        return _elements(memory, info).tobytes()


def _aligned(value_bytes: int) -> int:
    return -(-value_bytes // 8) * 8


def _mapped_bytes(info: MapInfo) -> int:
    length = _aligned(info.value_bytes) * info.max_entries
    return -(-length // mmap.PAGESIZE) * mmap.PAGESIZE


def _elements(memory: mmap.mmap, info: MapInfo) -> npt.NDArray[np.uint8]:
    """View the elements without the gaps between them."""
    stride = _aligned(info.value_bytes)
    whole = np.frombuffer(memory, np.uint8, stride * info.max_entries)
    return whole.reshape(-1, stride)[:, : info.value_bytes]


def count_entries(fd: Fd, info: MapInfo) -> int:
    """Count the entries; of an array, its elements."""
    if info.type in ARRAYS:
        return info.max_entries
    return sum(len(keys) // info.key_bytes for keys, _ in read_raw(fd, info))
