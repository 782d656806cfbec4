"""Manifests applied to a real kernel by the whole way, for tests to look at what came of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fos1d import abi
from fos1d.kernel import bpf
from fos1d.kernel.bpf import Fd
from fos1d.kernel.counters import Count, program_counts
from fos1d.kernel.port import RealKernel
from fos1d.model.diagnostic import errors_of
from fos1d.model.objects import Attachment, Hook
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.reconcile import Memory, Options, PassReport, reconcile
from tests import lab

XDP_DROP, XDP_PASS = 1, 2

HEAD = "apiVersion: networking.fos1.io/v1alpha1\n"


def snapshot(files: Mapping[str, str | bytes]) -> Snapshot:
    """Return a snapshot of files given by path."""
    blobs = {}
    for path, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        blobs[path] = Blob(path, hashlib.sha256(data).hexdigest(), len(data), _reader(data))
    return Snapshot("test", blobs)


def _reader(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def program(name: str, interface: str, settings: str, **spec: object) -> str:
    """Return the manifest of an xdp program; `settings` is YAML for spec.settings in one line."""
    extra = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        f"{HEAD}kind: EBPFProgram\nmetadata: {{name: {name}}}\nspec:\n  type: xdp\n"
        f"  interface: {interface}\n{extra}  settings: {settings}\n"
    )


@dataclass
class Applied:
    """A kernel and the memory of passes made on it."""

    kernel: RealKernel
    memory: Memory = field(default_factory=Memory)
    options: Options = field(default_factory=lambda: Options(prune_limit_percent=100))

    def apply(self, files: Mapping[str, str | bytes]) -> PassReport:
        """Make a pass with these files."""
        return reconcile(snapshot(files), self.memory, self.kernel, self.options, 0.0, True)

    def ready(self, files: Mapping[str, str | bytes]) -> PassReport:
        """Make a pass that must leave nothing undone and nothing wrong."""
        report = self.apply(files)
        assert not report.admission.findings, report.admission.findings
        assert not report.facts.refusals, report.facts.refusals
        assert not report.facts.late | report.facts.conflicts.keys()
        return report

    def ready_or_waiting(self, files: Mapping[str, str | bytes]) -> PassReport:
        """Make a pass that must leave nothing undone but what waits for an interface."""
        report = self.apply(files)
        assert not errors_of(report.admission.findings), report.admission.findings
        assert not report.facts.refusals, report.facts.refusals
        assert not report.facts.late | report.facts.conflicts.keys()
        return report

    def attached(self, report: PassReport, interface: str) -> str:
        """Return the pin of the XDP program on an interface."""
        found = [
            attachment
            for attachment in report.facts.attached.values()
            if isinstance(attachment, Attachment)
            and (attachment.interface, attachment.hook) == (interface, Hook.XDP)
        ]
        return found[0].program

    def open(self, files: Mapping[str, str | bytes], interface: str = "v0") -> Fd:
        """Apply the files and open the interface's program, to be run by hand."""
        return self.kernel.bpffs.open(self.attached(self.ready(files), interface))

    def counts(self, owner: str) -> dict[abi.Reason, Count]:
        """Return a program's counters that are not zero."""
        counts = program_counts(self.kernel.bpffs, f"default:{owner}")
        return {reason: count for reason, count in counts.items() if count.packets}


@contextmanager
def applied(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    """Return a kernel with a veth pair, v0 and v1, in the namespace that this thread is in."""
    # Or the kernel's own neighbour discovery would be counted among the tests' packets.
    namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    namespace.ip("link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
    for name in ("v0", "v1"):
        namespace.ip("link", "set", "dev", name, "up")
    kernel = RealKernel(bpffs)
    try:
        yield Applied(kernel)
    finally:
        kernel.close()


def verdict(program_fd: Fd, frame: bytes) -> int:
    """Run a program on a frame."""
    return bpf.test_run(program_fd, frame)
