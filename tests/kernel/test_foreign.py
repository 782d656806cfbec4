"""What is not ours is never touched; its holder is named; when it goes, we take the place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.model.condition import ConditionType
from fos1d.model.identity import ResourceId
from fos1d.reconcile import PassReport
from fos1d.report.conditions import conditions_of
from tests import lab
from tests.applied import HEAD, Applied, applied, program

pytestmark = pytest.mark.kernel

STRANGER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int stranger(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int stranger_tc(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "stranger.c").write_text(STRANGER)
    triple = lab.command("gcc", "-print-multiarch").strip()
    words = ["clang-19", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{triple}"]
    subprocess.run([*words, "-c", "stranger.c", "-o", "s.o"], cwd=folder, check=True, timeout=60)
    return folder / "s.o"


def conditions(report: PassReport, kind: str, name: str) -> dict[str, tuple[bool, str]]:
    found = conditions_of(ResourceId(kind, "default", name), report.facts, True)
    return {str(c.type): (c.holds, c.message) for c in found}


def xdp_of(namespace: lab.Namespace, interface: str) -> str:
    return namespace.run("bpftool", "net", "show", "dev", interface).split("tc:")[0]


@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_a_foreign_xdp_program(
    kernel: Applied, namespace: lab.Namespace, bpffs: Path, stranger: Path, mode: str
) -> None:
    pin = str(bpffs.parent / "stranger")
    lab.command("bpftool", "prog", "load", str(stranger), pin, "type", "xdp", check=False)
    lab.command("ip", "link", "set", "dev", "v0", mode, "object", str(stranger), "section", "xdp")
    before = xdp_of(namespace, "v0")
    files = {"p.yaml": program("p", "v0", "{}"), "q.yaml": program("q", "v1", "{}")}
    report = kernel.apply(files)
    said = conditions(report, "EBPFProgram", "p")
    assert said["Conflicted"][0] and "`stranger`" in said["Conflicted"][1]
    assert not said["Ready"][0]
    assert conditions(report, "EBPFProgram", "q")["Ready"][0], "the rest goes on"
    assert xdp_of(namespace, "v0") == before
    assert not kernel.apply(files).plan.actions, "and no second try is planned"
    lab.command("ip", "link", "set", "dev", "v0", mode, "off")
    kernel.ready(files)


def test_a_foreign_xdp_program_without_the_right_to_look_at_it(
    kernel: Applied, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.command(
        "ip", "link", "set", "dev", "v0", "xdpdrv", "object", str(stranger), "section", "xdp"
    )
    monkeypatch.setattr("fos1d.kernel.bpf.program_by_id", lambda number: None)
    report = kernel.apply({"p.yaml": program("p", "v0", "{}")})
    assert "XDP program id" in conditions(report, "EBPFProgram", "p")["Conflicted"][1]


def test_a_foreign_pin(kernel: Applied, bpffs: Path) -> None:
    pin = bpffs.parent / "blacklist"
    words = ["type", "hash", "key", "4", "value", "4", "entries", "4", "name", "theirs"]
    lab.command("bpftool", "map", "create", str(pin), *words)
    files = {
        "m.yaml": f"{HEAD}kind: EBPFMap\nmetadata: {{name: m}}\nspec: {{type: hash, keySize: 4,"
        f" valueSize: 4, maxEntries: 9, pinPath: {pin}}}\n"
    }
    said = conditions(kernel.apply(files), "EBPFMap", "m")
    assert said["Conflicted"][0] and "`theirs`" in said["Conflicted"][1]
    assert "theirs" in lab.command("bpftool", "map", "show", "pinned", str(pin))
    pin.unlink()
    kernel.ready(files)
    assert "max_entries 9" in lab.command("bpftool", "map", "show", "pinned", str(pin))


def test_a_foreign_ingress_qdisc_where_clsact_must_stand(
    namespace: lab.Namespace, bpffs: Path, kernel: Applied
) -> None:
    from fos1d.kernel.port import RealKernel

    kernel.kernel = RealKernel(bpffs, "clsact")
    lab.command("tc", "qdisc", "add", "dev", "v0", "ingress")
    files = {"p.yaml": program("p", "v0", "{stateful: true}")}
    said = conditions(kernel.apply(files), "EBPFProgram", "p")
    assert said["Conflicted"][0] and "tc qdisc del dev v0 ingress" in said["Conflicted"][1]
    assert "ingress" in lab.command("tc", "qdisc", "show", "dev", "v0")
    lab.command("tc", "qdisc", "del", "dev", "v0", "ingress")
    kernel.ready(files)


@pytest.mark.parametrize("how", ["tcx", "clsact"])
def test_foreign_tc_filters_stay(kernel: Applied, bpffs: Path, stranger: Path, how: str) -> None:
    from fos1d.kernel.port import RealKernel

    kernel.kernel = RealKernel(bpffs, how)
    lab.command("tc", "qdisc", "add", "dev", "v0", "clsact")
    theirs = ["egress", "pref", "7", "bpf", "da", "obj", str(stranger), "sec", "tc"]
    lab.command("tc", "filter", "add", "dev", "v0", *theirs)
    before = lab.command("tc", "filter", "show", "dev", "v0", "egress", "pref", "7")
    kernel.ready({"p.yaml": program("p", "v0", "{stateful: true}")})
    kernel.ready({})
    assert lab.command("tc", "filter", "show", "dev", "v0", "egress", "pref", "7") == before
    shown = lab.command("tc", "filter", "show", "dev", "v0", "egress")
    assert "fos1" not in shown


def test_our_own_clsact_stays_until_the_purge(kernel: Applied, bpffs: Path) -> None:
    from fos1d.kernel.port import RealKernel

    kernel.kernel = RealKernel(bpffs, "clsact")
    kernel.ready({"p.yaml": program("p", "v0", "{stateful: true}")})
    assert "clsact" in lab.command("tc", "qdisc", "show", "dev", "v0")
    kernel.ready({})
    assert "clsact" in lab.command("tc", "qdisc", "show", "dev", "v0")
    kernel.kernel.purge()
    assert "clsact" not in lab.command("tc", "qdisc", "show", "dev", "v0")


def test_conflicted_is_a_condition_of_its_own(kernel: Applied, stranger: Path) -> None:
    lab.command(
        "ip", "link", "set", "dev", "v0", "xdpdrv", "object", str(stranger), "section", "xdp"
    )
    report = kernel.apply({"p.yaml": program("p", "v0", "{}")})
    found = conditions_of(ResourceId("EBPFProgram", "default", "p"), report.facts, True)
    types = {condition.type for condition in found}
    assert {ConditionType.CONFLICTED, ConditionType.RECONCILING} <= types
