"""Programs onto hooks: XDP by netlink, TC by TCX links or clsact filters.

XDP is attached by netlink and not by a BPF link, so that `ip link set dev X xdp off`, the command
that everybody knows in an emergency, works (docs/decisions/0003-xdp-by-netlink.md). A swap names
the program that it expects to find, so that a foreign one is never overwritten.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from contextlib import ExitStack

from fos1d.errors import HeldByOther, KernelError
from fos1d.kernel import bpf, libbpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.libbpf import call
from fos1d.kernel.netlink import Netlink
from fos1d.model.objects import Attachment, Hook, Mode
from fos1d.model.pins import clsact_mark, link_path

XDP_UPDATE_IF_NOEXIST, XDP_SKB_MODE, XDP_DRV_MODE = 1, 2, 4
XDP_FLAGS = {Mode.NATIVE: XDP_DRV_MODE, Mode.GENERIC: XDP_SKB_MODE}
TCX_TYPES = {Hook.TC_INGRESS: 46, Hook.TC_EGRESS: 47}
TC_POINTS = {Hook.TC_INGRESS: 1, Hook.TC_EGRESS: 2}
BPF_F_REPLACE, BPF_F_BEFORE, BPF_F_LINK = 4, 8, 1 << 13
BPF_LINK_CREATE = 28
TC_REPLACE = 1

# Our filters' priorities on clsact: a band that nobody else uses, in the order of our programs.
PRIORITY_BASE = 0xF510
PRIORITY_BAND = range(PRIORITY_BASE, PRIORITY_BASE + 16)
HANDLE = 1


def xdp_new(index: int, program: Fd, mode: Mode, where: str) -> None:
    """Attach where nothing is.

    Raises HeldByOther if something is, KernelError with the kernel's words.
    """
    _xdp(index, program.number, XDP_FLAGS[mode] | XDP_UPDATE_IF_NOEXIST, None, where)


def xdp_set(index: int, program: Fd, mode: Mode, expected: Fd | None, where: str) -> None:
    """Attach in place of the program `expected`, or of whatever is there if None.

    Raises HeldByOther if it is not the expected one, KernelError with the kernel's words.
    """
    _xdp(index, program.number, XDP_FLAGS[mode], expected, where)


def xdp_clear(index: int, mode: Mode, expected: Fd | None, where: str) -> None:
    """Detach the program `expected`, or whatever is there if None."""
    _xdp(index, -1, XDP_FLAGS[mode], expected, where)


def _xdp(index: int, program: int, flags: int, expected: Fd | None, where: str) -> None:
    opts = libbpf.XdpAttachOpts(sz=ctypes.sizeof(libbpf.XdpAttachOpts))
    if expected:
        opts.old_prog_fd = expected.number
    what = f"{'detach from' if program < 0 else 'attach to'} {where}"
    call("bpf_xdp_attach", index, program, flags, ctypes.byref(opts), what=what)


def xdp_first(index: int, program: Fd, wanted: Mode, where: str) -> str:
    """Attach where nothing is; AUTO falls back from native to generic. Return a remark.

    Raises KernelError.
    """
    if wanted is not Mode.AUTO:
        xdp_new(index, program, wanted, where)
        return ""
    try:
        xdp_new(index, program, Mode.NATIVE, where)
    except HeldByOther:
        raise
    except KernelError as refusal:
        if refusal.errno == errno.EPERM:
            raise
        xdp_new(index, program, Mode.GENERIC, where)
        return f"generic mode, since native was refused: {refusal}"
    return ""


# TCX


def _link_pin(attachment: Attachment) -> str:
    return link_path(attachment.interface, attachment.hook, attachment.order)


def tcx_set(bpffs: Bpffs, index: int, program: Fd, attachment: Attachment) -> None:
    """Attach by a pinned TCX link, or swap the program of the link that is there."""
    path = _link_pin(attachment)
    if bpffs.exists(path):
        with bpffs.open(path) as link:
            if bpf.link_info(link).interface == index:
                _tcx_swap(link, program, attachment)
                return
    with ExitStack() as stack:
        later = _next_link(bpffs, index, attachment)
        before = stack.enter_context(bpffs.open(later)) if later else None
        bpffs.put(stack.enter_context(_tcx_link(index, program, attachment, before)), path)


def _next_link(bpffs: Bpffs, index: int, attachment: Attachment) -> str | None:
    """Return the pin of our link that comes next on the hook, None if there is none."""
    start = link_path(attachment.interface, attachment.hook, 0).removesuffix("0")
    orders = (
        int(path.removeprefix(start))
        for path in bpffs.pins(start.rpartition("/")[0])
        if path.startswith(start)
    )
    for order in sorted(order for order in orders if order > attachment.order):
        path = f"{start}{order}"
        with bpffs.open(path) as link:
            if bpf.link_info(link).interface == index:
                return path
    return None


def _tcx_link(index: int, program: Fd, attachment: Attachment, before: Fd | None) -> Fd:
    """Attach before one of our links, behind all others if there is none (union bpf_attr)."""
    kind, flags = TCX_TYPES[attachment.hook], BPF_F_BEFORE | BPF_F_LINK if before else 0
    attributes = struct.pack(
        "=IIIIIIQ", program.number, index, kind, flags, before.number if before else 0, 0, 0
    )
    what = f"attach to {attachment.interface} {attachment.hook} by tcx"
    return bpf.create_by_syscall(BPF_LINK_CREATE, attributes, what)


def _tcx_swap(link: Fd, program: Fd, attachment: Attachment) -> None:
    opts = libbpf.LinkUpdateOpts(sz=ctypes.sizeof(libbpf.LinkUpdateOpts))
    what = f"swap the program on {attachment.interface} {attachment.hook}"
    call("bpf_link_update", link.number, program.number, ctypes.byref(opts), what=what)


def tcx_clear(bpffs: Bpffs, attachment: Attachment) -> None:
    """Detach at once, not when the last descriptor closes."""
    path = _link_pin(attachment)
    if not bpffs.exists(path):
        return
    with bpffs.open(path) as link:
        libbpf.lib().bpf_link_detach(link.number)
        bpffs.remove(path)


# clsact


def _hook(index: int, hook: Hook) -> libbpf.TcHook:
    size = ctypes.sizeof(libbpf.TcHook)
    return libbpf.TcHook(sz=size, ifindex=index, attach_point=TC_POINTS[hook])


def _opts(order: int) -> libbpf.TcOpts:
    size = ctypes.sizeof(libbpf.TcOpts)
    return libbpf.TcOpts(sz=size, handle=HANDLE, priority=PRIORITY_BASE + order)


def clsact_set(
    netlink: Netlink, bpffs: Bpffs, index: int, program: Fd, attachment: Attachment
) -> None:
    """Attach by a clsact filter of our band, or replace the one that is there.

    Raises HeldByOther where an old-style ingress qdisc occupies the place of clsact.
    """
    _ready_clsact(netlink, bpffs, index, attachment)
    hook, opts = _hook(index, attachment.hook), _opts(attachment.order)
    opts.prog_fd, opts.flags = program.number, TC_REPLACE
    what = f"attach to {attachment.interface} {attachment.hook} by clsact"
    call("bpf_tc_attach", ctypes.byref(hook), ctypes.byref(opts), what=what)


def _ready_clsact(netlink: Netlink, bpffs: Bpffs, index: int, attachment: Attachment) -> None:
    there = netlink.qdisc_at(index, 0xFFFF0000)
    if there == "clsact":
        return
    if there is not None:
        raise HeldByOther(
            f"{attachment.interface} has an `{there}` qdisc where clsact must stand; remove it: "
            f"tc qdisc del dev {attachment.interface} {there}",
            errno.EEXIST,
        )
    hook = _hook(index, attachment.hook)
    what = f"add clsact to {attachment.interface}"
    call("bpf_tc_hook_create", ctypes.byref(hook), what=what)
    bpffs.mark(clsact_mark(attachment.interface), str(index))


def clsact_program(index: int, hook: Hook, order: int) -> int:
    """Return the id of the program in our filter there, 0 if there is none."""
    tc_hook, opts = _hook(index, hook), _opts(order)
    if libbpf.lib().bpf_tc_query(ctypes.byref(tc_hook), ctypes.byref(opts)) < 0:
        return 0
    return int(opts.prog_id)


def clsact_clear(index: int, attachment: Attachment) -> None:
    """Remove our filter. The qdisc stays: to remove it takes the device down for a moment, and
    packets with it (seen on Linux 6.18)."""
    hook, opts = _hook(index, attachment.hook), _opts(attachment.order)
    result = libbpf.lib().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(opts))
    if result not in (0, -errno.ENOENT, -errno.EINVAL):
        raise libbpf.error_of(-result, f"remove the filter from {attachment.interface}")


def clsact_purge(netlink: Netlink, bpffs: Bpffs) -> None:
    """Remove the clsact qdiscs that we made and that nobody else uses."""
    for name, link in netlink.links().items():
        mark = clsact_mark(name)
        index = link.interface.index
        if bpffs.marked(mark) == str(index) and not list(netlink.filters(index)):
            netlink.remove_clsact(index)
        bpffs.remove(mark)
