"""Who is at the other end of the socket, and whether it may change things."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

GROUP = "fos1"
SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
MOST_BYTES = 1024  # what Python lets us ask for: 256 groups
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """A process as the kernel saw it when it connected (SO_PEERCRED, SO_PEERGROUPS, unix(7))."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(pid, uid, gid, _groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    """Return the supplementary groups that the peer ran with."""
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_BYTES)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(data) // 4}I", data))


def group_id(name: str = GROUP) -> int | None:
    """Return the number of a group, None if there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def may_change(peer: Peer) -> bool:
    """Whether the peer may do more than read: root, our own user, members of group fos1."""
    if peer.uid in (0, os.geteuid()):
        return True
    wanted = group_id()
    return wanted is not None and wanted in _groups_of(peer)


def _groups_of(peer: Peer) -> set[int]:
    """Return the groups that the peer ran with, and those that its user belongs to by now."""
    ran_with = {peer.gid, *peer.groups}
    try:
        user = pwd.getpwuid(peer.uid)
    except KeyError:
        return ran_with
    return ran_with | set(os.getgrouplist(user.pw_name, user.pw_gid))
