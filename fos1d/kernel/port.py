"""The seam: what the pass asks of a kernel, and the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from fos1d.kernel.addresses import forwarding, with_addresses
from fos1d.kernel.attach import clsact_purge
from fos1d.kernel.bpffs import open_root
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.contents import possible_cpus
from fos1d.kernel.execute import Executor
from fos1d.kernel.features import has_stack_view, has_tcx, with_redirects
from fos1d.kernel.loader import object_digests
from fos1d.kernel.netlink import Link, Netlink
from fos1d.kernel.observe import Places, observe
from fos1d.kernel.operators import flow_keys, operator_connections, ssh_cgroups
from fos1d.kernel.rivals import find_rivals
from fos1d.kernel.xdp_features import XdpFeatures
from fos1d.model.facts import Facts, FastPath, Features
from fos1d.model.objects import KernelObject, Key, State
from fos1d.model.workload import Workload
from fos1d.plan.actions import Action


class Kernel(Protocol):
    """What a pass needs of a kernel."""

    def facts(self) -> Facts:
        """Return what the machine has."""

    def observe(self, desired: Mapping[Key, KernelObject]) -> State:
        """Return what is there: all of ours, and strangers in the places that `desired` wants."""

    def execute(self, action: Action) -> str:
        """Carry out one action; return a remark for people, or nothing."""


class RealKernel:
    """The kernel of this machine, seen from this network namespace.

    `tc_attach` is `auto`, `tcx` or `clsact`; `cgroup_root` is the cgroup2 mount, None to look for
    it. `fast_path` is where it is wanted. `workloads` tells who is in which cgroup. Established
    connections to `operator_ports`, and to ssh servers wherever they listen, are the operator's.
    """

    def __init__(
        self,
        bpffs_root: Path,
        tc_attach: str = "auto",
        cgroup_root: Path | None = None,
        workloads: Callable[[], tuple[Workload, ...]] = tuple,
        operator_ports: Collection[int] = (),
        fast_path: FastPath = FastPath.OFF,
    ) -> None:
        self.bpffs = open_root(bpffs_root)
        self.netlink = Netlink()
        self._tc_attach = tc_attach
        self._workloads = workloads
        self._operator_ports = operator_ports
        self._fast_path = fast_path
        self._xdp_features = XdpFeatures()
        self.cgroups = Cgroupfs(cgroup_root)
        self._executor = Executor(self.bpffs, self.netlink, self.cgroups)
        self._links: Mapping[str, Link] | None = None

    def facts(self) -> Facts:
        """Return the interfaces and features; the node's name and labels are the caller's."""
        self._links = links = self.netlink.links()
        plain = {name: link.interface for name, link in links.items()}
        interfaces = with_addresses(plain, self.netlink.address_messages())
        tcx = has_tcx() if self._tc_attach == "auto" else self._tc_attach == "tcx"
        fast_path = self._fast_path if has_stack_view() else FastPath.OFF
        if fast_path in (FastPath.AUTO, FastPath.XDP):
            can, queues = self._xdp_features.read(), self.netlink.root_qdiscs()
            interfaces = with_redirects(interfaces, can, queues)
        workloads = self._workloads()
        found = operator_connections(ssh_cgroups(workloads), self._operator_ports)
        return Facts(
            interfaces,
            Features(tcx, fast_path),
            object_digests(),
            workloads,
            *flow_keys(found),
            rivals=find_rivals({found.index: name for name, found in interfaces.items()}),
            forwards=forwarding(),
            cpus=possible_cpus(),
        )

    def observe(self, desired: Mapping[Key, KernelObject]) -> State:
        """Return what is there, once leftovers without meaning are gone; interfaces as the facts
        just named them.

        Somebody may have unmounted the BPF file system: then it is mounted again, and is empty.
        """
        open_root(self.bpffs.root)
        links, self._links = self._links or self.netlink.links(), None
        names = {link.interface.index: name for name, link in links.items()}
        clsact = [names[index] for index in self.netlink.clsact_interfaces() if index in names]
        listing = self.bpffs.tidy(clsact)
        places = Places(self.netlink, links, clsact, self.cgroups)
        return observe(self.bpffs, listing, places, desired, self._executor.ours)

    def execute(self, action: Action) -> str:
        """Carry out one action."""
        return self._executor.execute(action)

    def purge(self) -> None:
        """Remove what no action removes, since it costs packets: clsact qdiscs of our making."""
        clsact_purge(self.netlink, self.bpffs)

    def close(self) -> None:
        """Close the netlink sockets; everything in the kernel stays."""
        self.netlink.close()
        self._xdp_features.close()
