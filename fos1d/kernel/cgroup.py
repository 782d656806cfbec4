"""Programs onto cgroups, by pinned BPF links; and the cgroup2 file system that names them.

A link is attached beside others (BPF_F_ALLOW_MULTI), so nobody's program is ever in another's
way, unless somebody attached one of the old kind, which forbids all others there and below.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fos1d.errors import HeldByOther, KernelError, Unsupported, Waiting
from fos1d.kernel import bpf, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.libbpf import call
from fos1d.model.objects import CgroupAttachment, CgroupHook
from fos1d.model.pins import cgroup_link_path

# enum bpf_attach_type
ATTACH_TYPES = {
    CgroupHook.INGRESS: 0,
    CgroupHook.EGRESS: 1,
    CgroupHook.SOCK_CREATE: 2,
    CgroupHook.SOCK_OPS: 3,
    CgroupHook.DEVICE: 6,
    CgroupHook.CONNECT4: 10,
    CgroupHook.CONNECT6: 11,
    CgroupHook.SENDMSG4: 14,
    CgroupHook.SENDMSG6: 15,
    CgroupHook.SOCK_RELEASE: 34,
}
BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI = 1, 2


@dataclass(slots=True)
class Cgroupfs:
    """The cgroup2 file system. `mount` is where it is, or None to look for it."""

    mount: Path | None = None

    def root(self) -> Path | None:
        """Return the mount point, None where there is none."""
        if self.mount is None:
            self.mount = find_mount(Path("/proc/self/mountinfo").read_text())
        return self.mount

    def id_of(self, cgroup: str) -> int | None:
        """Return the id of the cgroup at a path below the root, None if it is not there."""
        root = self.root()
        try:
            return (root / cgroup).stat().st_ino if root else None
        except OSError:
            return None

    def open(self, cgroup: str) -> Fd:
        """Open the cgroup at a path below the root.

        Raises Waiting if it is not there, Unsupported without a cgroup2 file system.
        """
        root = self.root()
        if root is None:
            raise Unsupported("no cgroup2 file system is mounted: mount -t cgroup2 none PATH")
        try:
            return Fd(os.open(root / cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Waiting(f"cgroup {cgroup} is not there (any more)", errno.ENOENT) from error
        except OSError as error:
            raise KernelError(
                f"open {root / cgroup}: {error.strerror}", error.errno or 0
            ) from error


def find_mount(mountinfo: str) -> Path | None:
    """Return the first mount point of a cgroup2 file system in a mountinfo table (proc(5))."""
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            escaped = place.split(" ")[4].encode("latin-1", "backslashreplace")
            return Path(os.fsdecode(escaped.decode("unicode_escape").encode("latin-1")))
    return None


def attach(bpffs: Bpffs, cgroups: Cgroupfs, program: Fd, attachment: CgroupAttachment) -> None:
    """Attach by a pinned link, or swap the program of the link that is there.

    Raises Waiting if the cgroup is gone, HeldByOther if somebody's program forbids others.
    """
    path = _pin(attachment)
    with cgroups.open(attachment.cgroup) as place:
        if bpffs.exists(path):
            with bpffs.open(path) as link:
                if bpf.cgroup_link_info(link).cgroup_id == os.fstat(place.number).st_ino:
                    what = f"swap the program on {_place(attachment)}"
                    call("bpf_link_update", link.number, program.number, None, what=what)
                    return
        with _link(cgroups, place, program, attachment) as link:
            bpffs.put(link, path)


def detach(bpffs: Bpffs, attachment: CgroupAttachment) -> None:
    """Detach at once, not when the last descriptor closes."""
    path = _pin(attachment)
    if not bpffs.exists(path):
        return
    with bpffs.open(path) as link:
        libbpf.lib().bpf_link_detach(link.number)
        bpffs.remove(path)


def _link(cgroups: Cgroupfs, place: Fd, program: Fd, attachment: CgroupAttachment) -> Fd:
    kind = ATTACH_TYPES[attachment.hook]
    what = f"attach to {_place(attachment)}"
    try:
        return Fd(call("bpf_link_create", program.number, place.number, kind, None, what=what))
    except KernelError as error:
        holder = error.errno == errno.EPERM and _forbidding(cgroups, attachment)
        if not holder:
            raise
        raise HeldByOther(f"{what}: {holder}", errno.EPERM) from error


def _forbidding(cgroups: Cgroupfs, attachment: CgroupAttachment) -> str:
    """Name the program, here or above, that was attached so that others are forbidden."""
    path = PurePosixPath(attachment.cgroup)
    for cgroup in (path, *path.parents):
        with cgroups.open(str(cgroup)) as place:
            flags, programs = _attached(place, attachment.hook)
        allowing = BPF_F_ALLOW_MULTI if cgroup == path else BPF_F_ALLOW_MULTI | BPF_F_ALLOW_OVERRIDE
        if programs and not flags & allowing:
            ids = ", ".join(map(str, programs))
            return f"program id {ids} on {cgroup} allows no other (attached without `multi`)"
    return ""


MOST_QUERIED = 64


def _attached(place: Fd, hook: CgroupHook) -> tuple[int, tuple[int, ...]]:
    """Return the flags and the ids of the programs attached to a cgroup itself."""
    ids = (ctypes.c_uint32 * MOST_QUERIED)()
    address = ctypes.addressof(ids)
    query = struct.pack("=IIIIQI", place.number, ATTACH_TYPES[hook], 0, 0, address, MOST_QUERIED)
    answer = bpf.syscall(bpf.BPF_PROG_QUERY, query, "ask what is attached to a cgroup")
    _, _, _, flags, _, count = struct.unpack_from("=IIIIQI", answer)
    return flags, tuple(ids[:count])


def _pin(attachment: CgroupAttachment) -> str:
    return cgroup_link_path(attachment.cgroup, attachment.hook, attachment.slot)


def _place(attachment: CgroupAttachment) -> str:
    return f"{attachment.hook} of cgroup {attachment.cgroup}"
