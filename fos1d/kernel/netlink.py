"""Interfaces, qdiscs and filters by netlink (pyroute2), as values."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from fos1d.model.facts import Interface
from fos1d.model.objects import Hook, Mode

IFF_UP = 1
SKIP_STATISTICS = 1 << 3
CLSACT = 0xFFFF0000
ROOT = 0xFFFFFFFF
PARENTS = {Hook.TC_INGRESS: 0xFFFFFFF2, Hook.TC_EGRESS: 0xFFFFFFF3}

XDP_MODES = {"xdp": Mode.NATIVE, "xdpgeneric": Mode.GENERIC, "xdpoffload": Mode.NATIVE}


@dataclass(frozen=True, slots=True)
class Xdp:
    """The XDP program of an interface."""

    program_id: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Link:
    """An interface and what runs on its XDP hook."""

    interface: Interface
    xdp: Xdp | None


@dataclass(frozen=True, slots=True)
class BpfFilter:
    """A cls_bpf filter on a clsact qdisc."""

    hook: Hook
    priority: int
    handle: int
    name: str


class Netlink:
    """One socket for questions."""

    def __init__(self) -> None:
        self._route = IPRoute()

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def links(self) -> dict[str, Link]:
        """Return all interfaces of this network namespace, by name."""
        found = (_link(message) for message in self._route.get_links(ext_mask=SKIP_STATISTICS))
        return {link.interface.name: link for link in found}

    def address_messages(self) -> list[Any]:
        """Return the addresses of all interfaces, as the kernel lists them."""
        return list(self._route.get_addr())

    def addresses(self) -> set[IPv4Address | IPv6Address]:
        """Return this machine's own addresses."""
        found = (message.get_attr("IFA_LOCAL") for message in self._route.get_addr(family=AF_INET))
        six = (message.get_attr("IFA_ADDRESS") for message in self._route.get_addr(family=AF_INET6))
        return {ip_address(address) for address in (*found, *six) if address}

    def link(self, name: str) -> Link | None:
        """Return one interface, None where there is none of that name."""
        try:
            found = self._route.link("get", ifname=name, ext_mask=SKIP_STATISTICS)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        link = _link(found[0])
        # The kernel also finds interfaces by their alternative names.
        return link if link.interface.name == name else None

    def qdisc_at(self, interface: int, handle: int) -> str | None:
        """Return the kind of the qdisc with that handle on an interface."""
        for message in self._route.get_qdiscs(index=interface):
            if message["handle"] == handle:
                return str(message.get_attr("TCA_KIND"))
        return None

    def root_qdiscs(self) -> dict[int, str]:
        """Return the kind of the root qdisc of each interface that has one, by index."""
        return {
            message["index"]: str(message.get_attr("TCA_KIND"))
            for message in self._route.get_qdiscs()
            if message["parent"] == ROOT
        }

    def clsact_interfaces(self) -> list[int]:
        """Return the indexes of the interfaces that have a clsact qdisc."""
        return sorted(
            message["index"]
            for message in self._route.get_qdiscs()
            if message.get_attr("TCA_KIND") == "clsact"
        )

    def filters(self, interface: int) -> Iterator[BpfFilter | None]:
        """Yield the filters of an interface's clsact qdisc; None for one that is not BPF."""
        for hook, parent in PARENTS.items():
            for message in self._route.get_filters(index=interface, parent=parent):
                if message["handle"]:
                    yield _filter(hook, message)

    def remove_clsact(self, interface: int) -> None:
        """Remove an interface's clsact qdisc."""
        self._route.tc("del", "clsact", interface)


def _link(message: Any) -> Link:
    interface = Interface(
        name=str(message.get_attr("IFLA_IFNAME")),
        index=int(message["index"]),
        link_type=int(message["ifi_type"]),
        mtu_bytes=int(message.get_attr("IFLA_MTU") or 0),
        up=bool(message["flags"] & IFF_UP),
        is_port=_slave_kind(message) not in ("", "vrf"),
    )
    return Link(interface, _xdp(message.get_attr("IFLA_XDP")))


def _slave_kind(message: Any) -> str:
    about = message.get_attr("IFLA_LINKINFO")
    return str(about.get_attr("IFLA_INFO_SLAVE_KIND") or "") if about else ""


def _xdp(attribute: Any) -> Xdp | None:
    fields = dict(attribute["attrs"]) if attribute else {}
    mode = XDP_MODES.get(str(fields.get("IFLA_XDP_ATTACHED")))
    number = fields.get("IFLA_XDP_PROG_ID")
    return Xdp(int(number), mode) if mode and number else None


def _filter(hook: Hook, message: Any) -> BpfFilter | None:
    if message.get_attr("TCA_KIND") != "bpf":
        return None
    options = message.get_attr("TCA_OPTIONS")
    name = options.get_attr("TCA_BPF_NAME") if options else ""
    return BpfFilter(hook, message["info"] >> 16, message["handle"], str(name or ""))
