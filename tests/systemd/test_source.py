"""What the sandbox must let through: git, a user's own programs, a list of many lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.applied import program
from tests.running import ROOT, until
from tests.systemd.conftest import ATTACKER, EDGE, POLICY, Site

pytestmark = pytest.mark.netns

REPOSITORY = "/srv/fos1/policy.git"
AS_GIT = ("runuser", "-u", "git", "--")


def push(site: Site, text: str) -> str:
    """Commit a manifest and push it as the user git; return what git said."""
    site.machine.write("/srv/fos1/work/edge.yaml", text)
    script = "cd /srv/fos1/work && git add -A && git commit -qm x && git push -q router HEAD:main"
    done = site.machine.run(*AS_GIT, "sh", "-c", script, check=None)
    return done.stdout + done.stderr


def test_a_repository_of_another_user(site: Site) -> None:
    machine = site.machine
    machine.sh(f"""
        id git 2>/dev/null || useradd --system --home /srv/fos1 --groups fos1 git
        mkdir -p /srv/fos1/work; chown -R git: /srv/fos1
        runuser -u git -- fos1ctl repo init {REPOSITORY}
        printf '[source]\ntype = "git"\npath = "{REPOSITORY}"\n' >/etc/fos1d/fos1d.toml
        cd /srv/fos1/work; alias g='runuser -u git -- git'
        g init -q; g config user.email git@router; g config user.name git
        g remote add router {REPOSITORY}
    """)
    machine.run("systemctl", "start", "fos1d")
    assert "nothing was pushed yet" in machine.unit("StatusText")["StatusText"]
    said = push(site, EDGE)
    assert "1 manifest valid" in said and "program" in said, said
    until(site.blocked, 5)
    said = push(site, EDGE.replace("blacklist", "blacklst"))
    assert "edge.yaml:7:14" in said and "rejected" in said, said
    assert site.blocked()


def test_a_program_compiled_by_bcc(running: Site) -> None:
    """It needs headers below /lib/modules, memory for LLVM, a child process, and no more."""
    machine = running.machine
    if machine.run("/usr/bin/python3", "-c", "import bcc", check=None).returncode:
        pytest.fail("python3-bpfcc is missing: make setup")
    machine.sh("""
        modules=/lib/modules/$(uname -r)
        [ -e $modules/build ] || {
            mkdir -p $modules
            headers=$(ls -d /usr/src/linux-headers-*-$(dpkg --print-architecture) | head -1)
            ln -s $headers $modules/build
            ln -s ${headers%-*}-common $modules/source
        }
    """)
    code = (ROOT / "examples/kinds/count_packets.c").read_text()
    own = program("own", "wan0", "{}", priority=5, source="{bcc: own.c, function: count_packets}")
    machine.write(f"{POLICY}/own.c", code)
    machine.write(f"{POLICY}/own.yaml", own.replace("  settings: {}\n", ""))
    until(lambda: "2 of 2 Ready" in machine.status()["summary"], 20)
    assert running.blocked()
    assert "own" in machine.run("fos1ctl", "get", "ebpf").stdout


OWN_C = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int own(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_a_compiled_object_and_a_list_of_a_hundred_thousand_lines(
    running: Site, tmp_path: Path
) -> None:
    machine = running.machine
    (tmp_path / "own.c").write_text(OWN_C)
    words = ("clang-19", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu")
    subprocess.run([*words, "-c", "own.c", "-o", "own.o"], cwd=tmp_path, check=True)
    place = f"/proc/{machine.pid}/root{POLICY}"
    (Path(place) / "own.o").write_bytes((tmp_path / "own.o").read_bytes())
    lines = "".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(0, 200000, 2))
    machine.write(f"{POLICY}/bad.netset", lines + ATTACKER + "\n")
    own = program("own", "wan0", "{}", priority=5, source="{object: own.o, program: own}")
    machine.write(f"{POLICY}/own.yaml", own.replace("  settings: {}\n", ""))
    many = "{blacklist: {enabled: true, files: [bad.netset]}}"
    machine.write(f"{POLICY}/edge.yaml", program("edge", "wan0", many))
    until(lambda: machine.run("fos1ctl", "get", "ebpf").stdout.count("True") == 2, 10)
    assert running.blocked()
