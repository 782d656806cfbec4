"""The demo's stage: hosts around a router, an operator, and words on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import lab
from tests.running import ROOT, Router, router

EXAMPLE = ROOT / "examples/edge-router"
SETTINGS = "[reconcile]\nprune_limit_percent = 100"

HOST4, NOISY4, ATTACKER4, NEW4 = (f"203.0.113.{n}" for n in (2, 50, 66, 77))
HOST6, ATTACKER6 = "2001:db8:113::2", "2001:db8:113::66"
LAN4, LAN6 = "10.0.0.2", "2001:db8:10::2"


def paint(code: str, text: str) -> str:
    """Colour text on a terminal that wants it."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def scene(text: str) -> None:
    """Begin a scene."""
    print(f"\n{paint('1', text)}", flush=True)


def say(text: str) -> None:
    """Say what is seen."""
    for line in text.rstrip().splitlines():
        print(f"   {line}", flush=True)


@dataclass
class Stage:
    """The hosts, the router, and the operator's clone of its repository."""

    host: lab.Namespace
    attacker: lab.Namespace
    lan: lab.Namespace
    router: Router
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        """Where the operator edits."""
        return self.router.folder / "clone"

    @property
    def bare(self) -> Path:
        """The repository on the router."""
        return self.router.folder / "policy.git"

    def git(self, *words: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run git as the operator."""
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Operator"), ("EMAIL", "operator@example.net"))
        }
        more = {"HOME": str(self.router.folder), "GIT_CONFIG_NOSYSTEM": "1", **who}
        more["FOS1_SOCKET"] = f"{self.router.folder}/run/api.sock"
        words = ("git", *words)
        return subprocess.run(
            words,
            cwd=at or self.clone,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def commit(self, message: str) -> None:
        """Commit all that the operator changed."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def note(self, what: str, wanted: str, seen: str, good: bool) -> None:
        """Add a row to the final table and show it."""
        self.rows.append((what, wanted, seen, good))
        mark = paint("32", "ok ") if good else paint("31;1", "BAD")
        say(f"{mark} {what}: {seen}")


def answered(namespace: lab.Namespace, source: str, dest: str, count: int = 10) -> int:
    """Ping from an address and return how many answers came."""
    words = ("ping", "-n", "-q", "-c", str(count), "-i", "0.02", "-W", "1", "-I", source, dest)
    said = namespace.run(*words, check=False)
    return (
        int(said.split(" packets transmitted, ")[-1].split(" ")[0]) if "transmitted" in said else 0
    )


def until(true: object, timeout_s: float = 10.0) -> float | None:
    """Wait until a callable says yes; return the milliseconds, None if it never did."""
    assert callable(true)
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(0.002)
    return (time.monotonic() - began) * 1000


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Build the stage and clear it away afterwards."""
    with (
        lab.bpf_folder() as pins,
        lab.namespaces("isp", "host", "attacker", "lan", "router") as (
            isp,
            host,
            attacker,
            lan,
            rt,
        ),
        router(rt, folder, pins / "fos1", SETTINGS) as made,
    ):
        _connect(isp, host, attacker, lan, rt)
        made.write_settings(f'type = "git"\npath = "{folder}/policy.git"')
        yield Stage(host, attacker, lan, made)


def _connect(
    isp: lab.Namespace,
    host: lab.Namespace,
    attacker: lab.Namespace,
    lan: lab.Namespace,
    rt: lab.Namespace,
) -> None:
    isp.ip("link", "add", "name", "br0", "type", "bridge")
    isp.ip("link", "set", "dev", "br0", "up")
    for namespace, name, port in (
        (host, "eth0", "p1"),
        (attacker, "eth0", "p2"),
        (rt, "wan0", "p3"),
    ):
        lab.veth(namespace, name, isp, port)
        isp.ip("link", "set", "dev", port, "master", "br0")
    lab.veth(lan, "eth0", rt, "lan0")
    lab.address(host, "eth0", f"{HOST4}/24", f"{NOISY4}/24", f"{HOST6}/64")
    lab.address(attacker, "eth0", f"{ATTACKER4}/24", f"{NEW4}/24", f"{ATTACKER6}/64")
    lab.address(rt, "wan0", "203.0.113.1/24", "2001:db8:113::1/64")
    lab.address(rt, "lan0", "10.0.0.1/24", "2001:db8:10::1/64")
    lab.address(lan, "eth0", f"{LAN4}/24", f"{LAN6}/64")
    rt.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for outside in (host, attacker):
        outside.ip("route", "add", "10.0.0.0/24", "via", "203.0.113.1")
        outside.ip("route", "add", "2001:db8:10::/64", "via", "2001:db8:113::1")
    lan.ip("route", "add", "default", "via", "10.0.0.1")
    lan.ip("route", "add", "default", "via", "2001:db8:10::1")
