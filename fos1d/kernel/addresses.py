"""Addresses of interfaces, and whether packets are forwarded between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from fos1d.model.facts import Interface

Address: TypeAlias = IPv4Address | IPv6Address

GLOBAL = 0
# linux/if_addr.h. Of IPv6, a secondary address is a temporary one (RFC 8981).
SECONDARY, DAD_FAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40
UNIQUE_LOCAL = IPv6Network("fc00::/7")
FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def with_addresses(
    interfaces: Mapping[str, Interface], messages: Iterable[Any]
) -> dict[str, Interface]:
    """Return the interfaces with their global addresses, from the kernel's list of all."""
    found: dict[int, list[_Ranked]] = {}
    for place, message in enumerate(messages):
        if (address := _usable(message)) is not None:
            found.setdefault(message["index"], []).append(_ranked(message, address, place))
    return {
        name: replace(interface, addresses=_preferred(found.get(interface.index, ())))
        for name, interface in interfaces.items()
    }


class _Ranked(NamedTuple):
    is_second: bool
    age: int
    address: Address


def _ranked(message: Any, address: Address, place: int) -> _Ranked:
    """The kernel lists the addresses of IPv6 with the newest first, those of IPv4 in order."""
    is_second = bool(_flags(message) & SECONDARY) or (
        isinstance(address, IPv6Address) and address in UNIQUE_LOCAL
    )
    return _Ranked(is_second, -place if address.version == 6 else place, address)


def _preferred(found: Iterable[_Ranked]) -> tuple[Address, ...]:
    return tuple(one.address for one in sorted(found, key=itemgetter(0, 1)))


def _flags(message: Any) -> int:
    return int(message.get_attr("IFA_FLAGS") or message["flags"])


def _usable(message: Any) -> Address | None:
    if message["scope"] != GLOBAL or _flags(message) & (DAD_FAILED | DEPRECATED | TENTATIVE):
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
