"""Addresses and networks as people write them -> ipaddress values, with messages that help.

Stricter than the ipaddress module: no netmasks, no zones, no host bits, no IPv4 mapped into IPv6,
so that one network has one way to be written. Every function raises ValueError.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from fos1d.quantity import shown

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_USUAL = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?:/[1-9]?[0-9])?", re.ASCII)
_MAPPED = IPv6Network("::ffff:0:0/96")
_LONGEST = 64


def address(text: str) -> Address:
    """Return the host address that `text` names."""
    if "/" in text:
        raise ValueError(f"{shown(text)} is a network; write one address, without a prefix length")
    found = _address(text, text)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(_mapped(text, str(found.ipv4_mapped)))
    return found


def network(text: str) -> Network:
    """Return the network that `text` names; an address alone is the network of that host."""
    if _USUAL.fullmatch(text):
        with suppress(ValueError):  # of which what follows makes a better message
            return IPv4Network(text)
    if "/" not in text:
        return ip_network(address(text))
    host, _, prefix = text.partition("/")
    base = _address(host, text)
    length = _prefix_length(prefix, text, base)
    found = ip_network((base, length), strict=False)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        inner = IPv4Address(int(base) & 0xFFFFFFFF)
        raise ValueError(_mapped(text, str(ip_network((inner, length - 96), strict=False))))
    if found.network_address != base:
        raise ValueError(
            f"{shown(text)} has bits set beyond /{length}; write {found} for the network,"
            f" or {base} for the one host"
        )
    return found


def cidr(text: str) -> Network:
    """Return the network that `text` names with its prefix length written out."""
    found = network(text)
    if "/" not in text:
        raise ValueError(f"{shown(text)} has no prefix length; write {found} for the one host")
    return found


def listed_source(text: str) -> Network:
    """Return the network of sources to drop: any but the whole of IPv4 or IPv6."""
    found = network(text)
    if found.prefixlen == 0:
        raise ValueError(
            f"{found} would drop every IPv{found.version} packet; list the networks that are meant"
        )
    return found


def same_family(*items: Address | Network) -> bool:
    """Whether all are IPv4 or all are IPv6."""
    return len({item.version for item in items}) <= 1


def overlap(one: Network, other: Network) -> bool:
    """Whether some address is in both."""
    return one.version == other.version and one.overlaps(other)


def covers(outer: Network, inner: Network) -> bool:
    """Whether every address of `inner` is in `outer`."""
    return overlap(outer, inner) and outer.prefixlen <= inner.prefixlen


def is_host(found: Network) -> bool:
    """Whether the network holds one address."""
    return found.prefixlen == found.max_prefixlen


def _address(text: str, whole: str) -> Address:
    if "%" in text:
        raise ValueError(f"{shown(whole)} has a zone; write the address without %…")
    try:
        return ip_address(text if len(text) <= _LONGEST else "")
    except ValueError:
        raise ValueError(_no_address(text, whole)) from None


def _no_address(text: str, whole: str) -> str:
    octets = text.split(".")
    if len(octets) == 4 and all(re.fullmatch(r"[0-9]{1,4}", o, re.ASCII) for o in octets):
        if max(map(int, octets)) > 255:
            return f"{shown(whole)} is no address; each part of an IPv4 address is 0 to 255"
        plain = ".".join(str(int(octet)) for octet in octets)
        advice = f"write {plain}" if plain != text else "write it without leading zeros"
        return f"{shown(whole)} has a leading zero, octal to some programs; {advice}"
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", text, re.ASCII) and text.strip("abcdef"):
        return f"{shown(whole)} is a name; names are not resolved, write the address"
    return f"{shown(whole)} is not an IPv4 or IPv6 address"


def _prefix_length(prefix: str, whole: str, base: Address) -> int:
    if "." in prefix:
        raise ValueError(f"{shown(whole)} has a netmask; write {_with_prefix(base, prefix)}")
    if not _PREFIX.fullmatch(prefix) or int(prefix) > base.max_prefixlen:
        raise ValueError(
            f"{shown(whole)} has no valid prefix length; for IPv{base.version} it is"
            f" 0 to {base.max_prefixlen}"
        )
    return int(prefix)


def _with_prefix(base: Address, mask: str) -> str:
    try:
        return str(ip_network(f"{base}/{mask}", strict=False))
    except ValueError:
        return "a prefix length, such as /24"


def _mapped(text: str, instead: str) -> str:
    return (
        f"{shown(text)} is IPv4 mapped into IPv6, but the packets are IPv4 on the wire;"
        f" write {instead}"
    )
