"""The promise on the real kernel: the same body as tests/unit/test_promise.py."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fos1d.errors import KernelError
from fos1d.kernel import bpf, contents
from fos1d.kernel.port import RealKernel
from fos1d.model.objects import (
    Attachment,
    CgroupAttachment,
    Entries,
    Hook,
    KernelObject,
    Map,
    Mode,
    PinAlias,
    Program,
    Slots,
    Table,
)
from fos1d.model.pins import cgroup_link_path, link_path
from tests import lab
from tests.contract import check_promise, reconcile_once
from tests.worlds import CGROUPS, desired_states, meddlings

pytestmark = pytest.mark.kernel


class RealStranger:
    """Meddles with the real kernel, by rm, ip(8), tc(8) and bpf(2)."""

    def __init__(self, kernel: RealKernel) -> None:
        self.kernel = kernel

    def lose(self, obj: KernelObject) -> None:
        """Remove a pin, or detach."""
        root = self.kernel.bpffs.root
        match obj:
            case Map() | Table() | Program():
                (root / obj.path).unlink(missing_ok=True)
            case PinAlias():
                Path(obj.path).unlink(missing_ok=True)
            case Attachment(hook=Hook.XDP):
                for mode in ("xdpdrv", "xdpgeneric"):
                    lab.command("ip", "link", "set", "dev", obj.interface, mode, "off", check=False)
            case Attachment(mode=Mode.TCX):
                (root / link_path(obj.interface, obj.hook, obj.order)).unlink(missing_ok=True)
            case Attachment():
                lab.command("tc", "qdisc", "del", "dev", obj.interface, "clsact", check=False)
            case CgroupAttachment(cgroup=cgroup, hook=hook, slot=slot):
                (root / cgroup_link_path(cgroup, hook, slot)).unlink(missing_ok=True)
                self.recreate(cgroup)
            case Entries() | Slots():
                pass

    def recreate(self, cgroup: str) -> None:
        """Remove a cgroup without children, and make another of its name."""
        place = self.kernel.cgroups.root()
        with suppress(OSError):
            if place:
                (place / cgroup).rmdir()
                (place / cgroup).mkdir()

    def write(self, shape: Map, key: bytes, value: bytes) -> None:
        """Write an entry if there is room."""
        with suppress(KernelError), self.kernel.bpffs.open(shape.path) as fd:
            info = bpf.map_info(fd)
            if len(contents.read_entries(fd, info)) < shape.max_entries:
                contents.write_entries(fd, info, {key: value})


@settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_one_pass_converges_and_a_second_does_nothing(
    namespace: lab.Namespace, bpffs: Path, cgroup: Path, data: st.DataObject
) -> None:
    states = desired_states(bpffs.parent)
    first, second = data.draw(states), data.draw(states)
    what = data.draw(meddlings())
    namespace.ip("link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
    for name in CGROUPS:
        (cgroup / name).mkdir(exist_ok=True)
    kernel = RealKernel(bpffs, cgroup_root=cgroup)
    try:
        check_promise(kernel, RealStranger(kernel), first, second, what)
        assert not reconcile_once(kernel, {}).actions
        kernel.purge()
        assert [str(path) for path in bpffs.rglob("*") if not path.is_dir()] == []
    finally:
        lab.command("ip", "link", "del", "dev", "v0")
        kernel.close()
        for parent, _, names in os.walk(bpffs.parent):
            for name in names:
                if not name.endswith(".debug"):
                    (Path(parent) / name).unlink()
