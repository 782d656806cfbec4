"""Interfaces, qdiscs and filters by netlink, as values."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from fos1d.kernel.rtnetlink import Attributes, Message, Socket, attribute, attributes_of
from fos1d.model.facts import Interface
from fos1d.model.objects import Hook, Mode

RTM_GETLINK, RTM_DELQDISC, RTM_GETQDISC, RTM_GETTFILTER = 18, 37, 38, 46

# struct ifinfomsg: family, type, index, flags, change
IFINFO = struct.Struct("=BxHiII")
IFF_UP = 1
IFLA_IFNAME, IFLA_MTU, IFLA_EXT_MASK, IFLA_XDP = 3, 4, 29, 43
IFLA_XDP_ATTACHED, IFLA_XDP_PROG_ID = 2, 4
SKIP_STATISTICS = attribute(IFLA_EXT_MASK, struct.pack("=I", 1 << 3))
XDP_MODES = {1: Mode.NATIVE, 2: Mode.GENERIC, 3: Mode.NATIVE}

# struct tcmsg: family, index, handle, parent, info
TC = struct.Struct("=BxxxiIII")
TCA_KIND, TCA_OPTIONS, TCA_BPF_NAME = 1, 2, 7
CLSACT, CLSACT_PARENT = 0xFFFF0000, 0xFFFFFFF1
PARENTS = {Hook.TC_INGRESS: 0xFFFFFFF2, Hook.TC_EGRESS: 0xFFFFFFF3}


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


@dataclass(frozen=True, slots=True)
class _Qdisc:
    interface: int
    handle: int
    kind: str


class Netlink:
    """One socket for questions."""

    def __init__(self) -> None:
        self._socket = Socket()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> dict[str, Link]:
        """Return all interfaces of this network namespace, by name."""
        question = IFINFO.pack(0, 0, 0, 0, 0) + SKIP_STATISTICS
        found = (_link(message) for message in self._socket.dump(RTM_GETLINK, question))
        return {link.interface.name: link for link in found}

    def qdisc_at(self, interface: int, handle: int) -> str | None:
        """Return the kind of the qdisc with that handle on an interface."""
        place = interface, handle
        return next((q.kind for q in self._qdiscs() if (q.interface, q.handle) == place), None)

    def clsact_interfaces(self) -> list[int]:
        """Return the indexes of the interfaces that have a clsact qdisc."""
        return sorted(qdisc.interface for qdisc in self._qdiscs() if qdisc.kind == "clsact")

    def _qdiscs(self) -> Iterator[_Qdisc]:
        for message in self._socket.dump(RTM_GETQDISC, TC.pack(0, 0, 0, 0, 0)):
            _, index, handle, _, _ = TC.unpack_from(message.body)
            yield _Qdisc(index, handle, _text(message.attributes(TC.size), TCA_KIND))

    def filters(self, interface: int) -> Iterator[BpfFilter | None]:
        """Yield the filters of an interface's clsact qdisc; None for one that is not BPF."""
        for hook, parent in PARENTS.items():
            question = TC.pack(0, interface, 0, parent, 0)
            for message in self._socket.dump(RTM_GETTFILTER, question):
                _, _, handle, _, info = TC.unpack_from(message.body)
                if handle:
                    yield _filter(hook, info >> 16, handle, message.attributes(TC.size))

    def remove_clsact(self, interface: int) -> None:
        """Remove an interface's clsact qdisc."""
        place = TC.pack(0, interface, CLSACT, CLSACT_PARENT, 0)
        self._socket.order(RTM_DELQDISC, place + attribute(TCA_KIND, b"clsact\0"))


def _text(attributes: Attributes, kind: int) -> str:
    return attributes.get(kind, b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(attributes: Attributes, kind: int) -> int:
    return int.from_bytes(attributes.get(kind, b""), sys.byteorder)


def _link(message: Message) -> Link:
    _, link_type, index, flags, _ = IFINFO.unpack_from(message.body)
    attributes = message.attributes(IFINFO.size)
    interface = Interface(
        name=_text(attributes, IFLA_IFNAME),
        index=index,
        link_type=link_type,
        mtu_bytes=_number(attributes, IFLA_MTU),
        up=bool(flags & IFF_UP),
    )
    return Link(interface, _xdp(attributes_of(attributes.get(IFLA_XDP, b""))))


def _xdp(attributes: Attributes) -> Xdp | None:
    mode = XDP_MODES.get(_number(attributes, IFLA_XDP_ATTACHED))
    number = _number(attributes, IFLA_XDP_PROG_ID)
    return Xdp(number, mode) if mode and number else None


def _filter(hook: Hook, priority: int, handle: int, attributes: Attributes) -> BpfFilter | None:
    if _text(attributes, TCA_KIND) != "bpf":
        return None
    options = attributes_of(attributes.get(TCA_OPTIONS, b""))
    return BpfFilter(hook, priority, handle, _text(options, TCA_BPF_NAME))
