"""Keys and values of maps, as the kernel holds them -> text that people read.

The reverse of kinds/entries.py: an lpm_trie's key is a network, an array's key its index, all
else is hex, byte for byte.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address

from fos1d.kinds.map import ARRAYS

PREFIX_BYTES = 4


def shown_entry(map_type: str, key: str, value: str) -> tuple[str, str]:
    """Return key and value, given as hex digits, for people."""
    return _shown_key(map_type, bytes.fromhex(key)), f"0x{value}"


def _shown_key(map_type: str, key: bytes) -> str:
    if map_type == "lpm_trie":
        return _shown_prefix(key)
    if map_type in ARRAYS:
        return str(int.from_bytes(key, sys.byteorder))
    return f"0x{key.hex()}"


def _shown_prefix(key: bytes) -> str:
    length = int.from_bytes(key[:PREFIX_BYTES], sys.byteorder)
    address = key[PREFIX_BYTES:]
    match len(address):
        case 4:
            return f"{IPv4Address(address)}/{length}"
        case 16:
            return f"{IPv6Address(address)}/{length}"
        case _:
            return f"0x{address.hex()}/{length}"
