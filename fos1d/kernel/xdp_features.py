"""What drivers can do with XDP: generic netlink, family `netdev` (Linux 6.3 and later)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from enum import IntFlag

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

FAMILY, DEV_GET = "netdev", 1
KNOWN = 7
CHANGES, UNKNOWN = "mgmt", (errno.ENOENT, errno.EOPNOTSUPP)
NETLINK_GENERIC, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 16, 270, 1


class XdpFeature(IntFlag):
    """linux/netdev.h, enum netdev_xdp_act: native programs, redirects, taking redirected frames."""

    BASIC = 1
    REDIRECT = 2
    TRANSMIT = 4


class _Device(genlmsg):  # type: ignore[misc]
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


class XdpFeatures:
    """One socket for questions, opened with the first."""

    def __init__(self) -> None:
        self._netlink: GenericNetlinkSocket | None = None

    def read(self) -> dict[int, XdpFeature]:
        """Return the features of each interface of this network namespace, by index; none where
        the kernel does not tell."""
        try:
            return dict(_features(self._opened()))
        except NetlinkError as error:
            if error.code in UNKNOWN:
                return {}
            raise

    def _opened(self) -> GenericNetlinkSocket:
        if self._netlink is None:
            self._netlink = GenericNetlinkSocket()
            self._netlink.bind(FAMILY, _Device)
        return self._netlink

    def close(self) -> None:
        """Close the socket."""
        if self._netlink is not None:
            self._netlink.close()


def driver_socket() -> socket.socket | None:
    """Return a socket that hears of changed features; None where the kernel does not tell."""
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind(FAMILY, _Device)
            group = netlink.mcast_groups[CHANGES]
    except NetlinkError as error:
        if error.code in UNKNOWN:
            return None
        raise
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    made.bind((0, 0))
    made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return made


def _features(netlink: GenericNetlinkSocket) -> Iterator[tuple[int, XdpFeature]]:
    request = _Device()
    request["cmd"], request["version"] = DEV_GET, 1
    for found in netlink.nlm_request(request, netlink.prid, NLM_F_REQUEST | NLM_F_DUMP):
        bits = int(found.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0)
        yield int(found.get_attr("NETDEV_A_DEV_IFINDEX")), XdpFeature(bits & KNOWN)
