"""CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are enough, and without them the error names them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lab
from tests.applied import HEAD, Applied, applied, program

pytestmark = pytest.mark.kernel

ENOUGH = "-all,+bpf,+net_admin,+perfmon"

MAP = (
    f"{HEAD}kind: EBPFMap\nmetadata: {{name: bad}}\nspec:\n  type: lpm_trie\n  keySize: 8\n"
    "  valueSize: 4\n  maxEntries: 16\n  accessedBy: [one]\n  pinPath: PIN\n"
    "  initData: [{key: 10.10.10.0/24, value: '0x1'}]\n"
)
EVERYTHING = (
    "{rateLimiting: {enabled: true}, blacklist: {enabled: true, ips: [1.2.3.4, '2001:db8::1']},"
    " stateful: true, synFloodProtection: true, icmpFloodProtection: true,"
    " udpFloodProtection: true, connectionsPerSecond: 5, connectionsPerIP: 5}"
)


def main(bpffs: str, pin: str) -> None:
    """Make two passes with what rights there are; the second must find nothing to do."""
    from fos1d.kernel.port import RealKernel

    files = {
        "a.yaml": program("one", "v0", EVERYTHING),
        "b.yaml": program("two", "v0", EVERYTHING, priority=3),
        "m.yaml": MAP.replace("PIN", pin),
    }
    for how in ("tcx", "clsact", "tcx"):
        kernel = Applied(RealKernel(Path(bpffs), how))
        kernel.ready(files)
        assert not kernel.apply(files).plan.actions
    lab.command("ip", "link", "set", "dev", "v0", "xdp", "off")
    assert [type(a).__name__ for a in kernel.ready(files).plan.actions] == ["Create"]
    for path in list(kernel.kernel.bpffs.pins("program")):
        (Path(bpffs) / path).unlink()
    kernel.ready(files)
    assert not kernel.apply(files).plan.actions
    kernel.ready({})


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def run_with(rights: str, bpffs: Path) -> subprocess.CompletedProcess[str]:
    code = "from tests.kernel.test_rights import main; import sys; main(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(bpffs), str(bpffs.parent / "bad")]
    root = Path(__file__).parents[2]
    return subprocess.run(
        ["setpriv", f"--bounding-set={rights}", "--", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("kernel")
def test_three_capabilities_are_enough(bpffs: Path) -> None:
    done = run_with(ENOUGH, bpffs)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["bpf", "net_admin"])
@pytest.mark.usefixtures("kernel")
def test_a_missing_one_is_named(bpffs: Path, missing: str) -> None:
    done = run_with(ENOUGH.replace(f"+{missing}", f"-{missing}"), bpffs)
    assert done.returncode != 0
    assert "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" in done.stdout + done.stderr
