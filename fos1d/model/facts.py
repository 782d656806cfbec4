"""What the machine has, read once per pass, so that lowering stays pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address

from fos1d.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. `link_type` is an ARPHRD_* number (1 Ethernet, 772 loopback).

    `redirects`: its driver runs XDP programs that send frames on by other interfaces.
    `takes_frames`: it sends what such programs give it, and no queue shapes what it sends.
    `is_port`: it belongs to a bridge or a bond, by which its packets come.
    `addresses` are its global ones, in the order in which they are preferred.
    """

    name: str
    index: int
    link_type: int = 1
    mtu_bytes: int = 1500
    up: bool = True
    redirects: bool = False
    takes_frames: bool = False
    is_port: bool = False
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    def address(self, version: int) -> IPv4Address | IPv6Address | None:
        """Return its first global address of an IP version."""
        return next((found for found in self.addresses if found.version == version), None)

    @property
    def link_header_bytes(self) -> int:
        """Bytes before the network header: 14 with an Ethernet header, 0 on a bare IP link."""
        return 14 if self.link_type in ETHERNET_LIKE else 0


ETHERNET_LIKE = frozenset({1, 772, 801, 802, 803})


class FastPath(StrEnum):
    """Where packets of established connections may go past the kernel's stack: nowhere; at TC, if
    they are translated; at XDP, where a program of ours runs there anyway, or wherever drivers can
    do it."""

    OFF = "off"
    TC = "tc"
    AUTO = "auto"
    XDP = "xdp"


@dataclass(frozen=True, slots=True)
class Features:
    """What the kernel can do, found by trying (kernel/features.py), as far as the settings want."""

    tcx: bool = True
    fast_path: FastPath = FastPath.OFF


@dataclass(frozen=True, slots=True, order=True)
class Rival:
    """Somebody else's chain that translates addresses at an interface: "" any, `ppp*` several."""

    chain: str
    interface: str = ""

    def is_at(self, interface: str) -> bool:
        """Whether it may translate what passes an interface."""
        return not self.interface or fnmatchcase(interface, self.interface)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that lowering may use. `objects` are the digests of our object files, by name.

    `operator_flows4` and `operator_flows6` are the keys, as the flow tables have them, of the
    connections that the operator has to this machine. `forwards` says whether it forwards packets
    of IPv4 and IPv6.
    """

    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    features: Features = Features()
    objects: Mapping[str, str] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    operator_flows4: frozenset[bytes] = frozenset()
    operator_flows6: frozenset[bytes] = frozenset()
    node_name: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    rivals: tuple[Rival, ...] = ()
    forwards: Mapping[int, bool] = field(default_factory=lambda: {4: True, 6: True})
    cpus: int = 1

    def matching(self, pattern: str) -> list[Interface]:
        """Return the interfaces whose names match a shell glob, by name."""
        return [
            self.interfaces[name] for name in sorted(self.interfaces) if fnmatchcase(name, pattern)
        ]
