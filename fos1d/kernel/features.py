"""What the kernel can do, found by trying. A refusal for lack of rights is no answer."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from fos1d.errors import KernelError
from fos1d.kernel import bpf
from fos1d.kernel.xdp_features import XdpFeature
from fos1d.model.facts import Interface

BPF_TCX_INGRESS = 46
LOOPBACK = 1
ETHERNET = 1
KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
# What a queue does that frames may pass by: nothing, or keep flows apart. Others shape.
PLAIN_QUEUES = frozenset({"noqueue", "mq", "pfifo_fast", "fq_codel", "fq"})
NOTHING = XdpFeature(0)
REDIRECTS = XdpFeature.BASIC | XdpFeature.REDIRECT


@cache
def has_tcx() -> bool:
    """Whether programs attach to TC hooks by tcx links (Linux 6.6 and later).

    Raises PermissionMissing where we may not even ask.
    """
    query = struct.pack("=IIIIQI", LOOPBACK, BPF_TCX_INGRESS, 0, 0, 0, 0)
    try:
        bpf.syscall(bpf.BPF_PROG_QUERY, query, "ask for tcx")
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise
        return error.errno not in (errno.EINVAL, errno.EOPNOTSUPP)
    return True


@cache
def has_stack_view() -> bool:
    """Whether XDP programs can read what else the stack would do with a frame: the kernel has its
    types, and the function that leads to them (Linux 6.4 and later)."""
    try:
        return b"\0bpf_cast_to_kern_ctx\0" in KERNEL_TYPES.read_bytes()
    except OSError:
        return False


def with_redirects(
    interfaces: Mapping[str, Interface],
    can: Mapping[int, XdpFeature],
    queues: Mapping[int, str],
) -> dict[str, Interface]:
    """Return the interfaces with what is done with frames that XDP sends on, from the features of
    their drivers and their root qdiscs, by index."""
    return {
        name: replace(
            found,
            redirects=found.link_type == ETHERNET and REDIRECTS in can.get(found.index, NOTHING),
            takes_frames=found.link_type == ETHERNET
            and XdpFeature.TRANSMIT in can.get(found.index, NOTHING)
            and queues.get(found.index, "noqueue") in PLAIN_QUEUES,
        )
        for name, found in interfaces.items()
    }
