"""Addresses of interfaces, and whether packets are forwarded between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from socket import AF_INET6
from typing import Any, TypeAlias

from fos1d.model.facts import Interface

Address: TypeAlias = IPv4Address | IPv6Address

GLOBAL = 0
# linux/if_addr.h; of IPv4, what is temporary (RFC 8981) there is a second address of its network.
TEMPORARY, DAD_FAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40
UNUSABLE = DAD_FAILED | DEPRECATED | TENTATIVE
UNIQUE_LOCAL = IPv6Network("fc00::/7")
FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def with_addresses(
    interfaces: Mapping[str, Interface], messages: Iterable[Any]
) -> dict[str, Interface]:
    """Return the interfaces with their global addresses, from the kernel's list of all."""
    found: dict[int, list[Address]] = {}
    for message in messages:
        if (address := _usable(message)) is not None:
            found.setdefault(message["index"], []).append(address)
    return {
        name: replace(interface, addresses=_preferred(found.get(interface.index, ())))
        for name, interface in interfaces.items()
    }


def _preferred(found: Iterable[Address]) -> tuple[Address, ...]:
    """Return the addresses in the kernel's order, unique local ones (RFC 4193) behind others."""
    return tuple(sorted(found, key=lambda a: isinstance(a, IPv6Address) and a in UNIQUE_LOCAL))


def _flags(message: Any) -> int:
    return int(message.get_attr("IFA_FLAGS") or message["flags"])


def _usable(message: Any) -> Address | None:
    unusable = UNUSABLE | (TEMPORARY if message["family"] == AF_INET6 else 0)
    if message["scope"] != GLOBAL or _flags(message) & unusable:
        return None
    own = "IFA_LOCAL" if message.get_attr("IFA_LOCAL") else "IFA_ADDRESS"
    address = message.get_attr(own)
    return ip_address(address) if address else None


def forwarding(proc_sys: Path = Path("/proc/sys")) -> dict[int, bool]:
    """Return whether this network namespace forwards packets, by IP version."""
    return {version: _is_on(proc_sys / name) for version, name in FORWARDING.items()}


def _is_on(knob: Path) -> bool:
    try:
        return knob.read_text().strip() != "0"
    except OSError:
        return False
