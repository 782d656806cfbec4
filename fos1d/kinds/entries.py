"""Keys and values of maps as people write them -> the bytes that the kernel holds.

Hex is taken as written, byte for byte, and padded with zero bytes in front; decimal numbers are in
the order of this machine; addresses are in network order. An lpm_trie's key is the prefix length
(4 bytes, the machine's order) and the address.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from fos1d.kinds.addresses import network
from fos1d.kinds.meta import Fault
from fos1d.manifest import Hex
from fos1d.quantity import shown

INTEGER_BYTES = (1, 2, 4, 8)
PREFIX_BYTES = 4
ADDRESS_BYTES = {4: 4, 6: 16}

_HEX = re.compile(r"0x([0-9a-fA-F]+)", re.ASCII)
_HEX_PREFIX = re.compile(r"0x([0-9a-fA-F]+)(?:/(0|[1-9][0-9]{0,3}))?", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)

Written = str | int


@dataclass(frozen=True, slots=True)
class Shape:
    """What a map's type says of its entries. `key_bytes` is 0 where there are no keys."""

    type: str
    key_bytes: int
    value_bytes: int
    max_entries: int


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as the kernel holds it."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """All entries, in the order in which they are written, and what is wrong with others."""

    records: tuple[Record, ...] = ()
    faults: tuple[Fault, ...] = ()


def as_written(value: Written) -> Written:
    """Return hex as its text, so that unquoted hex means the same as quoted."""
    return value.text if isinstance(value, Hex) else value


def pack_entries(shape: Shape, entries: Sequence[tuple[Written, Written]]) -> Packed:
    """Pack the entries of a map."""
    records: list[Record] = []
    faults: list[Fault] = []
    first: dict[bytes, int] = {}
    for index, (key, value) in enumerate(entries):
        try:
            step = "key"
            packed_key = pack_key(key, shape)
            if (earlier := first.setdefault(packed_key, index)) != index:
                raise ValueError(f"{shown(key)} is the key of initData[{earlier}] already")
            step = "value"
            records.append(Record(packed_key, pack(value, shape.value_bytes)))
        except ValueError as error:
            faults.append(Fault((index, step), str(error)))
    return Packed(tuple(records), tuple(faults))


def pack_key(key: Written, shape: Shape) -> bytes:
    """Pack a key by its map's type. Raises ValueError."""
    if shape.type == "lpm_trie":
        return pack_prefix(key, shape.key_bytes)
    packed = pack(key, shape.key_bytes)
    if shape.type in ("array", "percpu_array"):
        _check_index(key, int.from_bytes(packed, sys.byteorder), shape.max_entries)
    return packed


def _check_index(key: Written, index: int, max_entries: int) -> None:
    if index < max_entries:
        return
    hint = ", byte for byte; write it as a decimal number" if str(key).startswith("0x") else ""
    raise ValueError(
        f"{shown(key)} is index {index}{hint}; with maxEntries {max_entries} the last is"
        f" {max_entries - 1}"
    )


def pack(written: Written, size_bytes: int) -> bytes:
    """Pack hex, a decimal number or an address into exactly `size_bytes`. Raises ValueError."""
    text = str(written)
    if match := _HEX.fullmatch(text):
        return _pack_hex(text, match[1], size_bytes)
    if _DECIMAL.fullmatch(text):
        return _pack_number(text, size_bytes)
    if (packed := _pack_address(text)) is None:
        raise ValueError(f"{shown(text)} cannot be read; write {_forms(size_bytes)}")
    if len(packed) != size_bytes:
        raise ValueError(
            f"{shown(text)} has {len(packed)} bytes, not {size_bytes}; write {_forms(size_bytes)}"
        )
    return packed


def _pack_hex(text: str, digits: str, size_bytes: int) -> bytes:
    data = bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))
    if len(data) > size_bytes:
        raise ValueError(
            f"{shown(text)} has {len(data)} bytes, more than {size_bytes};"
            f" write at most {2 * size_bytes} hex digits"
        )
    return data.rjust(size_bytes, b"\0")


def _pack_number(text: str, size_bytes: int) -> bytes:
    if size_bytes not in INTEGER_BYTES:
        raise ValueError(
            f"{shown(text)} is a decimal number, which fits sizes 1, 2, 4 and 8, not {size_bytes};"
            " write it in hex"
        )
    number, most = int(text), (1 << 8 * size_bytes) - 1
    if number > most:
        raise ValueError(f"{text} does not fit into {size_bytes} bytes; the most is {most}")
    return number.to_bytes(size_bytes, sys.byteorder)


def _pack_address(text: str) -> bytes | None:
    try:
        return ip_address(text[:64]).packed if "%" not in text else None
    except ValueError:
        return None


def _forms(size_bytes: int) -> str:
    forms = [f"0x and {2 * size_bytes} hex digits"]
    if size_bytes in INTEGER_BYTES:
        forms.append("a decimal number")
    if size_bytes in ADDRESS_BYTES.values():
        forms.append("an IPv4 address" if size_bytes == 4 else "an IPv6 address")
    return " or ".join(forms)


def pack_prefix(key: Written, key_bytes: int) -> bytes:
    """Pack a key of an lpm_trie: 0x0a0a0a00/24, 10.10.10.0/24, 2001:db8::/32 or one address."""
    text = str(key)
    address_bytes = key_bytes - PREFIX_BYTES
    if match := _HEX_PREFIX.fullmatch(text):
        address = _pack_hex(text.partition("/")[0], match[1], address_bytes)
        length = int(match[2]) if match[2] else 8 * address_bytes
        _check_prefix(text, address, length)
        return length.to_bytes(PREFIX_BYTES, sys.byteorder) + address
    found = network(text)
    packed = found.network_address.packed
    if len(packed) != address_bytes:
        raise ValueError(
            f"{shown(text)} is IPv{found.version}, which needs keySize"
            f" {PREFIX_BYTES + len(packed)}, not {key_bytes}"
        )
    return found.prefixlen.to_bytes(PREFIX_BYTES, sys.byteorder) + packed


def _check_prefix(text: str, address: bytes, length: int) -> None:
    bits = 8 * len(address)
    if length > bits:
        raise ValueError(f"{shown(text)}: the prefix length is at most {bits}")
    number, mask = int.from_bytes(address), (1 << bits - length) - 1
    if number & mask:
        right = f"0x{number & ~mask:0{2 * len(address)}x}/{length}"
        raise ValueError(f"{shown(text)} has bits set beyond /{length}; write {right}")


def prefix_length(record: Record) -> int:
    """Return the prefix length of an lpm_trie's record."""
    return int.from_bytes(record.key[:PREFIX_BYTES], sys.byteorder)


def size_faults(shape: Shape) -> Iterator[Fault]:
    """Yield what the kernel would refuse of a map's sizes."""
    least, most = KEY_BYTES.get(shape.type, (1, MOST_KEY_BYTES))
    if shape.key_bytes and not least <= shape.key_bytes <= most:
        yield Fault(("keySize",), _bounds(shape.type, least, most))
    most = MOST_PER_CPU_BYTES if shape.type.startswith("percpu_") else MOST_VALUE_BYTES
    if shape.value_bytes > most:
        yield Fault(("valueSize",), f"must be at most {most} for type {shape.type}")


MOST_KEY_BYTES = 512
MOST_VALUE_BYTES = (4 << 20) - 1024
MOST_PER_CPU_BYTES = 32 << 10
KEY_BYTES = {"array": (4, 4), "percpu_array": (4, 4), "lpm_trie": (5, 260)}


def _bounds(type_name: str, least: int, most: int) -> str:
    if least == most:
        return f"must be {least} for type {type_name}: its keys are 32-bit indexes"
    return f"must be {least} to {most} for type {type_name}"
