"""Workloads with limits, really enforced: manifests lowered, planned and executed on cgroups."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fos1d.compile.lists import ListStore
from fos1d.kernel.loader import object_digests
from fos1d.kernel.port import RealKernel
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_lower import lower_limits
from fos1d.kinds.lowered import Context, Lowered
from fos1d.kinds.policy_lower import lower_policies
from fos1d.model.facts import Facts
from fos1d.model.workload import Provider, Workload
from tests.contract import reconcile_once
from tests.lab import Namespace
from tests.manifests import declared, manifest

SELECTOR = "selector: {podSelector: {}}\n"


def policy(spec: str, name: str = "x") -> str:
    """Return the manifest of a container policy for all workloads of its name space."""
    return manifest("EBPFContainerPolicy", SELECTOR + spec, name)


def lowered_policies(workloads: Sequence[Workload], *manifests: str) -> Lowered:
    """Lower manifests on a machine that has the given workloads."""
    here = [Accepted(found, {}, "r1") for found in declared(*manifests)]
    context = Context(Facts(objects=object_digests(), workloads=tuple(workloads)), ListStore())
    lowered = Lowered()
    view = lower_policies(here, context, lowered)
    lower_limits(here, view.places, context, lowered)
    return lowered


@dataclass(frozen=True)
class Limiter:
    """A cgroup2 root of the test's own, and a kernel whose policies are about what is below."""

    kernel: RealKernel
    root: Path

    def workload(self, path: str, trusted: bool = True, **labels: str) -> Workload:
        """Return a workload, its cgroup made."""
        place = self.root / path
        place.mkdir(parents=True, exist_ok=True)
        number = place.stat().st_ino
        known = labels if trusted else {}
        return Workload(path, path, number, Provider.STATIC, labels=labels, trusted_labels=known)

    def apply(self, workloads: Sequence[Workload], *manifests: str) -> Lowered:
        """Have manifests enforced."""
        lowered = lowered_policies(workloads, *manifests)
        reconcile_once(self.kernel, lowered.objects)
        return lowered

    def popen(self, path: str, namespace: Namespace, *words: str) -> subprocess.Popen[bytes]:
        """Start a command in a cgroup and a network namespace; its output is read by the test."""
        procs = self.root / path / "cgroup.procs"
        return subprocess.Popen(
            [*namespace.prefix(), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: (procs.write_text("0"), None)[1],
        )

    def run(self, path: str, namespace: Namespace, *words: str) -> str:
        """Run a command in a cgroup and return what it said."""
        with self.popen(path, namespace, *words) as started:
            said, _ = started.communicate(timeout=60)
        return said.decode()


@contextmanager
def limiter(bpffs: Path, cgroup: Path) -> Iterator[Limiter]:
    """Make a limiter."""
    kernel = RealKernel(bpffs, cgroup_root=cgroup)
    try:
        yield Limiter(kernel, cgroup)
    finally:
        kernel.close()
