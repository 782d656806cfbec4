"""What the settings make of the parts that a pass is made with."""

from __future__ import annotations

from collections.abc import Callable

from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.port import RealKernel
from fos1d.kernel.workloads.watch import Places, find_workloads
from fos1d.model.failsafe import own_tcp_ports
from fos1d.model.workload import Workload
from fos1d.reconcile import Options
from fos1d.settings import Settings


def options_of(settings: Settings) -> Options:
    """Return what the settings say to a pass."""
    return Options(
        settings.node.name,
        settings.node.labels,
        settings.reconcile.failsafe_ports,
        settings.kernel.max_flows,
        settings.reconcile.prune_limit_percent,
    )


def kernel_of(
    settings: Settings, workloads: Callable[[], tuple[Workload, ...]] | None = None
) -> RealKernel:
    """Return this machine's kernel, used as the settings say; by itself it looks for workloads."""
    paths, places = settings.paths, places_of(settings)
    look = workloads or (lambda: find_workloads(places))
    ports = own_tcp_ports(settings.reconcile.failsafe_ports)
    wanted = settings.kernel
    return RealKernel(
        paths.bpffs, wanted.tc_attach, paths.cgroup_mount, look, ports, wanted.fast_path
    )


def places_of(settings: Settings) -> Places:
    """Return where the settings have workloads looked for."""
    paths = settings.paths
    return Places(Cgroupfs(paths.cgroup_mount), paths.workloads, paths.runtime / "containers.json")


def place_of(settings: Settings) -> str:
    """Return what is read, for people."""
    source = settings.source
    where = f"{source.type} {source.path}"
    if source.type == "git":
        where += f" {source.branch}"
    return f"{where} {source.subpath}".rstrip()
