"""Several programs on one interface, built in and the user's own, by priority."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.errors import SourceProgramError, VerifierError
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Slots
from fos1d.plan.actions import Failed
from tests import frames as f
from tests import lab
from tests.applied import HEAD, XDP_DROP, XDP_PASS, Applied, applied, program, verdict

pytestmark = pytest.mark.kernel


@pytest.fixture
def kernel(namespace: lab.Namespace, bpffs: Path) -> Iterator[Applied]:
    with applied(namespace, bpffs) as made:
        yield made


def packet(source: str, dport: int = 2000) -> bytes:
    return f.ethernet(f.ipv4(source, "198.51.100.1", f.UDP, f.udp(1000, dport)))


def drops(address: str) -> str:
    return f'{{blacklist: {{enabled: true, ips: ["{address}"]}}}}'


def sourced(name: str, source: str, priority: int = 10) -> str:
    """Return the manifest of a user's own program."""
    return (
        f"{HEAD}kind: EBPFProgram\nmetadata: {{name: {name}}}\nspec:\n  type: xdp\n"
        f"  interface: v0\n  priority: {priority}\n  source: {source}\n"
    )


USER_C = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u16);
	__type(value, __u32);
} ports SEC(".maps");
static __attribute__((noinline)) int judge(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 port;

	if (data + 38 > end)
		return XDP_PASS;
	port = data[36] << 8 | data[37];
	return bpf_map_lookup_elem(&ports, &port) ? XDP_DROP : XDP_PASS;
}
SEC("xdp")
int drop_ports(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&seen, &zero);

	if (count)
		*count += 1;
	return judge(ctx);
}
SEC("xdp")
int refused(struct xdp_md *ctx)
{
	return *(int *)(long)ctx->data;
}
char LICENSE[] SEC("license") = "GPL";
"""

BCC_C = """
BPF_ARRAY(seen, u64, 1);
int drop_odd(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int zero = 0;
	u64 *count = seen.lookup(&zero);

	if (count)
		*count += 1;
	if (data + 38 > end)
		return XDP_PASS;
	return data[37] & 1 ? XDP_DROP : XDP_PASS;
}
"""


@pytest.fixture(scope="module")
def user_object(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("object")
    (folder / "user.bpf.c").write_text(USER_C)
    flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{_triple()}"]
    done = ["clang-19", *flags, "-c", "user.bpf.c", "-o", "user.bpf.o"]
    subprocess.run(done, cwd=folder, check=True, timeout=60)
    return (folder / "user.bpf.o").read_bytes()


def _triple() -> str:
    return lab.command("gcc", "-print-multiarch").strip()


def test_every_program_has_its_say_in_the_order_of_priority(kernel: Applied) -> None:
    files = {
        "a.yaml": program("first", "v0", drops("1.1.1.1"), priority=5),
        "b.yaml": program("second", "v0", drops("2.2.2.2")),
        "c.yaml": program("third", "v0", drops("3.3.3.3"), priority=20),
    }
    fd = kernel.open(files)
    for listed in ("1.1.1.1", "2.2.2.2", "3.3.3.3"):
        assert verdict(fd, packet(listed)) == XDP_DROP
    assert verdict(fd, packet("4.4.4.4")) == XDP_PASS
    assert not kernel.apply(files).plan.actions


def test_the_first_to_drop_counts_and_the_next_do_not_see_the_packet(kernel: Applied) -> None:
    limit = "{rateLimiting: {enabled: true, packetsPerSecond: 1, burst: 3}}"
    fd = kernel.open(
        {
            "a.yaml": program("first", "v0", drops("1.1.1.1"), priority=1),
            "b.yaml": program("second", "v0", limit, priority=2),
        }
    )
    assert [verdict(fd, packet("1.1.1.1")) for _ in range(9)] == [XDP_DROP] * 9
    assert [verdict(fd, packet("2.2.2.2")) for _ in range(5)].count(XDP_PASS) == 3


def test_an_order_is_swapped_as_a_whole(kernel: Applied) -> None:
    names = {"a.yaml": ("one", "1.1.1.1"), "b.yaml": ("two", "2.2.2.2")}
    for order in ((1, 2), (2, 1), (1, 2)):
        files = {
            path: program(name, "v0", drops(ip), priority=priority)
            for (path, (name, ip)), priority in zip(names.items(), order, strict=True)
        }
        fd = kernel.open(files)
        assert verdict(fd, packet("1.1.1.1")) == verdict(fd, packet("2.2.2.2")) == XDP_DROP
    kernel.ready({"a.yaml": program("one", "v0", drops("1.1.1.1"))})
    assert list(kernel.kernel.bpffs.pins("chain")) == [], "one program needs no chain"


def test_a_users_object_drops_counts_and_keeps_its_maps(
    kernel: Applied, user_object: bytes
) -> None:
    source = "{object: lists/user.bpf.o, program: drop_ports}"
    ports = (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: ports}}\nspec:\n  type: hash\n  keySize: 2\n"
        "  valueSize: 4\n  maxEntries: 16\n  accessedBy: [user]\n"
        "  initData: [{key: 53, value: 1}]\n"
    )
    files: dict[str, str | bytes] = {
        "p.yaml": sourced("user", source),
        "m.yaml": ports,
        "lists/user.bpf.o": user_object,
    }
    fd = kernel.open(files)
    assert verdict(fd, packet("1.1.1.1", 53)) == XDP_DROP
    assert verdict(fd, packet("1.1.1.1", 54)) == XDP_PASS
    (seen,) = (pin for pin in kernel.kernel.bpffs.pins("program") if "/~seen" in pin)
    chained = {**files, "q.yaml": program("last", "v0", drops("9.9.9.9"), priority=99)}
    fd = kernel.open(chained)
    assert verdict(fd, packet("1.1.1.1", 53)) == XDP_DROP
    assert verdict(fd, packet("9.9.9.9", 54)) == XDP_DROP, "the next program runs after it"
    assert verdict(fd, packet("1.1.1.1", 54)) == XDP_PASS
    assert kernel.kernel.bpffs.exists(seen), "its own map outlives the replacement"
    kernel.ready({})
    assert not list(kernel.kernel.bpffs.pins("program"))


def test_a_program_that_the_verifier_refuses_leaves_the_last_one_in_force(
    kernel: Applied, user_object: bytes
) -> None:
    files: dict[str, str | bytes] = {
        "p.yaml": sourced("user", "{object: user.o, program: drop_ports}"),
        "user.o": user_object,
    }
    before = kernel.attached(kernel.ready(files), "v0")
    report = kernel.apply(
        {**files, "p.yaml": sourced("user", "{object: user.o, program: refused}")}
    )
    (failed,) = (o for o in report.outcomes if isinstance(o, Failed))
    assert isinstance(failed.error, VerifierError)
    assert "invalid access to packet" in failed.error.log
    assert kernel.attached(report, "v0") == before


@pytest.mark.parametrize(
    ("source", "content", "says"),
    [
        ("{object: user.o, program: nosuch}", None, "it has: drop_ports, refused"),
        ("{object: user.o, program: drop_ports}", b"no object", "user.o"),
    ],
)
def test_a_users_faulty_object_is_explained(
    kernel: Applied, user_object: bytes, source: str, content: bytes | None, says: str
) -> None:
    files: dict[str, str | bytes] = {"user.o": content or user_object}
    files["p.yaml"] = sourced("user", source)
    (failed,) = (o for o in kernel.apply(files).outcomes if isinstance(o, Failed))
    assert isinstance(failed.error, SourceProgramError)
    assert says in str(failed.error)


def merged_headers(folder: Path) -> Path:
    """Return one tree of a distribution's headers, which Debian ships in two halves."""
    (arch,) = sorted(Path("/usr/src").glob("linux-headers-*-*64"))[-1:]
    common = Path(str(arch).rsplit("-", 1)[0] + "-common")
    for place in ("include", "arch/x86/include"):
        (folder / place).mkdir(parents=True)
        for half in (arch, common):
            for entry in (half / place).iterdir():
                link = folder / place / entry.name
                if not link.exists():
                    link.symlink_to(entry)
    return folder


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give bcc the distribution's headers where there are none for the running kernel."""
    if not Path(f"/lib/modules/{os.uname().release}/build").exists():
        monkeypatch.setenv("BCC_KERNEL_SOURCE", str(merged_headers(tmp_path / "headers")))


def test_a_map_that_the_users_program_does_not_use_is_told(
    kernel: Applied, user_object: bytes
) -> None:
    stray = (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: stray}}\nspec: {{type: hash, keySize: 2,"
        " valueSize: 4, maxEntries: 16, accessedBy: [user]}\n"
    )
    files: dict[str, str | bytes] = {"m.yaml": stray, "user.o": user_object}
    files["p.yaml"] = sourced("user", "{object: user.o, program: drop_ports}")
    (failed,) = (o for o in kernel.apply(files).outcomes if isinstance(o, Failed))
    assert "uses no map `stray`" in str(failed.error) and "ports, seen" in str(failed.error)


def test_one_interface_has_one_mode(kernel: Applied) -> None:
    files = {
        "a.yaml": program("first", "v0", drops("1.1.1.1"), priority=1, mode="generic"),
        "b.yaml": program("second", "v0", drops("2.2.2.2"), priority=2, mode="native"),
    }
    report = kernel.ready(files)
    (note,) = report.facts.notes[ResourceId("EBPFProgram", "default", "second")]
    assert note.reason == "ModeConflict" and "first (priority 1)" in note.message
    assert not report.facts.notes.get(ResourceId("EBPFProgram", "default", "first"))


@pytest.mark.usefixtures("headers")
def test_a_users_bcc_program(kernel: Applied) -> None:
    files: dict[str, str | bytes] = {
        "p.yaml": sourced("user", "{bcc: odd.c, function: drop_odd}"),
        "odd.c": BCC_C,
    }
    fd = kernel.open(files)
    assert verdict(fd, packet("1.1.1.1", 53)) == XDP_DROP
    assert verdict(fd, packet("1.1.1.1", 54)) == XDP_PASS
    fd = kernel.open({**files, "q.yaml": program("last", "v0", drops("9.9.9.9"), priority=99)})
    assert verdict(fd, packet("1.1.1.1", 53)) == XDP_DROP
    assert verdict(fd, packet("9.9.9.9", 54)) == XDP_DROP
    assert verdict(fd, packet("1.1.1.1", 54)) == XDP_PASS


@pytest.mark.usefixtures("headers")
def test_a_bcc_program_that_does_not_compile_is_explained(kernel: Applied) -> None:
    files: dict[str, str | bytes] = {"x.c": "int f( {"}
    files["p.yaml"] = sourced("user", "{bcc: x.c, function: f}")
    (failed,) = (o for o in kernel.apply(files).outcomes if isinstance(o, Failed))
    assert isinstance(failed.error, SourceProgramError)
    assert "x.c" in str(failed.error) and "error:" in str(failed.error)


def test_slots_that_somebody_empties_are_filled_again(kernel: Applied) -> None:
    files = {
        "a.yaml": program("first", "v0", drops("1.1.1.1"), priority=1),
        "b.yaml": program("second", "v0", drops("2.2.2.2"), priority=2),
    }
    fd = kernel.open(files)
    (chain,) = kernel.kernel.bpffs.pins("chain")
    pin = str(kernel.kernel.bpffs.root / chain)
    lab.command("bpftool", "map", "delete", "pinned", pin, "key", "1", "0", "0", "0")
    assert verdict(fd, packet("2.2.2.2")) == XDP_PASS
    report = kernel.ready(files)
    assert [type(action.new) for action in report.plan.actions if hasattr(action, "new")] == [Slots]
    assert verdict(fd, packet("2.2.2.2")) == XDP_DROP
