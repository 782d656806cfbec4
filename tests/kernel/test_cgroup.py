"""Programs on cgroups: they decide, are swapped without a gap, and leave strangers alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from fos1d.errors import HeldByOther, Waiting
from fos1d.kernel.port import RealKernel
from fos1d.model.objects import CgroupAttachment, CgroupHook, KernelObject, Key, Program, key_of
from fos1d.plan.actions import Plan, Replace
from fos1d.plan.diff import make_plan
from tests import lab
from tests.contract import reconcile_once
from tests.hooks import SECTIONS, cgroup_object
from tests.kernel.test_rights import ENOUGH
from tests.worlds import cgroup_program

pytestmark = pytest.mark.kernel

Desired = dict[Key, KernelObject]


@pytest.fixture
def kernel(bpffs: Path, cgroup: Path) -> Iterator[RealKernel]:
    made = RealKernel(bpffs, cgroup_root=cgroup)
    yield made
    made.close()


def wanting(hook: CgroupHook, verdict: str, place: str = ".", slot: int = 0) -> Desired:
    return placed(cgroup_program(verdict, hook), place, slot)


def placed(program: Program, place: str, slot: int) -> Desired:
    attachment = CgroupAttachment(place, CgroupHook(program.hook), program.path, slot)
    return {key_of(program): program, key_of(attachment): attachment}


def enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0")


def inside(cgroup: Path, code: str) -> int:
    """Run Python code in a process of the cgroup and return its exit code."""
    words = [sys.executable, "-c", code]
    return subprocess.run(
        words, preexec_fn=lambda: enter(cgroup), timeout=30, check=False
    ).returncode


CONNECT = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", 9), 2)
except OSError as error:
    sys.exit(error.errno)
"""
DEVICE = """
import sys
try:
    open("/dev/zero").read(1)
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize(
    ("hook", "code", "open_errno"),
    [(CgroupHook.CONNECT4, CONNECT, errno.ECONNREFUSED), (CgroupHook.DEVICE, DEVICE, 0)],
)
def test_a_program_decides_for_its_cgroup(
    kernel: RealKernel, cgroup: Path, hook: CgroupHook, code: str, open_errno: int
) -> None:
    assert reconcile_once(kernel, wanting(hook, "0")) == Plan()
    assert inside(cgroup, code) == errno.EPERM
    assert reconcile_once(kernel, wanting(hook, "1")) == Plan()
    assert inside(cgroup, code) == open_errno
    assert reconcile_once(kernel, wanting(hook, "0", slot=3) | wanting(hook, "1")) == Plan()
    assert inside(cgroup, code) == errno.EPERM, "all of ours must agree"
    assert reconcile_once(kernel, {}) == Plan()
    assert inside(cgroup, code) == open_errno


SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
r.bind(("127.0.0.1", 0)); r.settimeout(0.3)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        s.sendto(b"x", r.getsockname())
    except OSError:
        continue
    sys.exit(7)
"""


def test_a_swap_leaves_no_gap(kernel: RealKernel, cgroup: Path) -> None:
    """While one refusing program replaces another, nothing gets through."""
    hook = CgroupHook.EGRESS
    other = replace(cgroup_program("0", hook), digest="other")
    places = cycle((wanting(hook, "0"), placed(other, ".", 0)))
    assert reconcile_once(kernel, next(places)) == Plan()
    words = [sys.executable, "-c", SEND]
    with lab.namespaces("c") as (namespace,):
        prefix = namespace.prefix()
        process = subprocess.Popen([*prefix, *words], preexec_fn=lambda: enter(cgroup))
        swaps = 0
        while process.poll() is None:
            reconcile_once(kernel, next(places))
            swaps += 1
    assert process.returncode == 0
    assert swaps > 3


def test_another_cgroup_of_the_same_name_gets_its_own_link(
    kernel: RealKernel, cgroup: Path
) -> None:
    place = cgroup / "web.service"
    desired = wanting(CgroupHook.CONNECT4, "0", "web.service")
    place.mkdir()
    assert reconcile_once(kernel, desired) == Plan()
    place.rmdir()
    place.mkdir()
    plan = make_plan(desired, kernel.observe(desired))
    assert [type(action) for action in plan.actions] == [Replace]
    assert reconcile_once(kernel, desired) == Plan()
    assert inside(place, CONNECT) == errno.EPERM


def test_a_cgroup_that_is_not_there_is_waited_for(kernel: RealKernel, cgroup: Path) -> None:
    desired = wanting(CgroupHook.CONNECT4, "0", "gone.service")
    create, attach = make_plan(desired, kernel.observe(desired)).actions
    kernel.execute(create)
    with pytest.raises(Waiting, match=r"cgroup gone\.service is not there"):
        kernel.execute(attach)
    (cgroup / "gone.service").mkdir()
    assert reconcile_once(kernel, desired) == Plan()
    (cgroup / "gone.service").rmdir()
    assert reconcile_once(kernel, {}) == Plan(), "what held on to it goes"


def stranger(folder: Path, name: str, bpffs: Path) -> str:
    """Load a program of somebody else and return its pin."""
    (folder / "h.o").write_bytes(cgroup_object())
    lab.command("bpftool", "prog", "loadall", str(folder / "h.o"), str(bpffs.parent / "theirs"))
    return str(bpffs.parent / "theirs" / name)


@pytest.mark.parametrize(("above", "how"), [(".", "multi"), ("a", "multi"), (".", "override")])
def test_strangers_that_allow_others(
    kernel: RealKernel, cgroup: Path, bpffs: Path, tmp_path: Path, above: str, how: str
) -> None:
    pin = stranger(tmp_path, "device_1", bpffs)
    (cgroup / "a").mkdir()
    theirs = ["cgroup", "attach", str(cgroup / above), "cgroup_device", "pinned", pin, how]
    lab.command("bpftool", *theirs)
    before = lab.command("bpftool", "cgroup", "show", str(cgroup / above))
    assert reconcile_once(kernel, wanting(CgroupHook.DEVICE, "0", "a")) == Plan()
    assert inside(cgroup / "a", DEVICE) == errno.EPERM
    reconcile_once(kernel, {})
    assert lab.command("bpftool", "cgroup", "show", str(cgroup / above)) == before


@pytest.mark.parametrize(("above", "how"), [("a", "override"), (".", "")])
def test_strangers_that_forbid_others(
    kernel: RealKernel, cgroup: Path, bpffs: Path, tmp_path: Path, above: str, how: str
) -> None:
    pin = stranger(tmp_path, "device_1", bpffs)
    (cgroup / "a").mkdir()
    theirs = ["cgroup", "attach", str(cgroup / above), "cgroup_device", "pinned", pin, how]
    lab.command("bpftool", *(word for word in theirs if word))
    before = lab.command("bpftool", "cgroup", "show", str(cgroup / above))
    create, attach = make_plan(wanting(CgroupHook.DEVICE, "0", "a"), {}).actions
    kernel.execute(create)
    with pytest.raises(HeldByOther, match=rf"program id \d+ on {above} allows no other"):
        kernel.execute(attach)
    assert lab.command("bpftool", "cgroup", "show", str(cgroup / above)) == before


def test_every_hook_is_attached_and_seen(kernel: RealKernel) -> None:
    assert {str(hook).replace("-", "_") for hook in CgroupHook} == set(SECTIONS)
    desired = {k: v for hook in CgroupHook for k, v in wanting(hook, "1").items()}
    assert reconcile_once(kernel, desired) == Plan()


def main(bpffs: str, cgroup: str) -> None:
    """Make passes with what rights there are."""
    kernel = RealKernel(Path(bpffs), cgroup_root=Path(cgroup))
    for verdict in ("0", "1"):
        desired = {k: v for hook in CgroupHook for k, v in wanting(hook, verdict).items()}
        assert reconcile_once(kernel, desired) == Plan()
    assert reconcile_once(kernel, {}) == Plan()


def test_three_capabilities_are_enough(bpffs: Path, cgroup: Path) -> None:
    code = "from tests.kernel.test_cgroup import main; import sys; main(*sys.argv[1:])"
    words = ["setpriv", f"--bounding-set={ENOUGH}", "--", sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*words, str(bpffs), str(cgroup)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
