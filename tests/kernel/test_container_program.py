"""A user's own BCC program on cgroups: it runs both ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.kernel.port import RealKernel
from fos1d.plan.actions import Failed
from tests.applied import HEAD, Applied
from tests.kernel import test_chain
from tests.lab import Namespace

pytestmark = pytest.mark.kernel

headers = test_chain.headers
OWN = (
    f"{HEAD}kind: EBPFProgram\nmetadata: {{name: own}}\n"
    "spec: {type: cgroup, cgroup: /box, source: {bcc: own.c, function: judge}}\n"
)
DROP_TO_7 = """
int judge(struct __sk_buff *skb)
{
	u8 packet[32] = {};

	bpf_skb_load_bytes(skb, 0, packet, 24);
	return !(packet[9] == 17 && packet[23] == %d);
}
"""
ASK = """
import socket, sys
server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "ab")
server.bind(("127.0.0.1", 7)); server.settimeout(0.3)
try:
    client.sendto(b"?", ("127.0.0.1", 7))
    server.recv(9)
except OSError as error:
    sys.exit(error.errno or 99)
"""


@pytest.fixture
def applied(bpffs: Path, cgroup: Path) -> Iterator[Applied]:
    (cgroup / "box").mkdir()
    made = RealKernel(bpffs, cgroup_root=cgroup)
    yield Applied(made)
    made.close()


def passes(cgroup: Path, namespace: Namespace) -> bool:
    procs = cgroup / "box/cgroup.procs"
    namespace.ip("link", "set", "dev", "lo", "up")
    words = [*namespace.prefix(), sys.executable, "-c", ASK]
    done = subprocess.run(
        words, preexec_fn=lambda: (procs.write_text("0"), None)[1], timeout=30, check=False
    )
    return done.returncode == 0


@pytest.mark.usefixtures("headers")
def test_a_users_bcc_program(applied: Applied, cgroup: Path, namespace: Namespace) -> None:
    files: dict[str, str | bytes] = {"p.yaml": OWN, "own.c": DROP_TO_7 % 7}
    applied.ready(files)
    pins = sorted(path.rsplit("/", 1)[1][:16] for path in applied.kernel.bpffs.pins("cgroup"))
    assert pins == ["~cgroup-egress:1", "~cgroup-ingress:"]
    assert not passes(cgroup, namespace)
    assert not applied.ready(files).plan.actions
    applied.ready({**files, "own.c": DROP_TO_7 % 8})
    assert passes(cgroup, namespace)
    report = applied.apply({**files, "own.c": "int judge( {"})
    assert any(isinstance(outcome, Failed) for outcome in report.outcomes)
    assert len(list(applied.kernel.bpffs.pins("cgroup"))) == 2
    applied.ready({})
    assert not list(applied.kernel.bpffs.pins("cgroup"))
