"""What the kernel can do, found by trying. A refusal for lack of rights is no answer."""

from __future__ import annotations

import errno
import struct
from functools import cache

from fos1d.errors import KernelError
from fos1d.kernel import bpf

BPF_TCX_INGRESS = 46
LOOPBACK = 1


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
