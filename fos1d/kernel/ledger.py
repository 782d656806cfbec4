"""The ledger of a map: which of its keys we declared, in an array pinned under their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from fos1d.kernel import bpf, contents
from fos1d.kernel.bpffs import Bpffs
from fos1d.model.objects import MMAPABLE, Entries, Map, MapType
from fos1d.plan.contents import keys_of


def stride_of(key_bytes: int) -> int:
    """Return the bytes that a key takes in a ledger."""
    return -(-key_bytes // 8) * 8


def ledger_path(map_path: str, rows: bytes) -> str:
    """Return the pin of a ledger that holds these rows."""
    return f"ledger/{map_path}/{hashlib.sha256(rows).hexdigest()[:16]}"


def rows_of(keys: Sequence[bytes], key_bytes: int) -> bytes:
    """Return sorted keys as a ledger holds them."""
    stride = stride_of(key_bytes)
    return b"".join(key.ljust(stride, b"\0") for key in keys)


def write_ledger(bpffs: Bpffs, new: Entries) -> str | None:
    """Pin a ledger of all declared keys; return its path, or None where none are declared."""
    keys = sorted(keys_of(new))
    if not keys:
        return None
    rows = rows_of(keys, new.key_bytes)
    path = ledger_path(new.map, rows)
    if not bpffs.exists(path):
        shape = Map(path, MapType.ARRAY, 4, stride_of(new.key_bytes), len(keys), MMAPABLE)
        with bpf.create_map(shape) as fd:
            contents.write_array(fd, memoryview(rows))
            bpffs.put(fd, path)
    return path


def read_ledgers(
    bpffs: Bpffs, map_path: str, ledgers: Iterable[str], declared: Entries | None, key_bytes: int
) -> bytes:
    """Return the packed keys that a map's ledgers hold.

    A ledger whose name says that it holds the declared keys is not opened.
    """
    expected = sorted(keys_of(declared)) if declared else []
    known = ledger_path(map_path, rows_of(expected, key_bytes)) if expected else None
    keys: set[bytes] = set()
    for path in ledgers:
        keys.update(expected if path == known else _read(bpffs, path, key_bytes))
    return b"".join(sorted(keys))


def _read(bpffs: Bpffs, path: str, key_bytes: int) -> Iterable[bytes]:
    with bpffs.open(path) as fd:
        info = bpf.map_info(fd)
        packed = contents.read_array(fd, info)
    return (packed[i : i + key_bytes] for i in range(0, len(packed), info.value_bytes))
