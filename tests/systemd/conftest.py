"""Machines with fos1d installed, and hosts on their two sides."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import lab
from tests.applied import program
from tests.running import ROOT, until
from tests.systemd.machine import Machine, NoMachine, machine

WAN, LAN = "203.0.113", "10.0.0"
ATTACKER = f"{WAN}.66"
POLICY = "/etc/fos1d/policy"
DROP_INS = "/run/systemd/system/fos1d.service.d"
EDGE = program("edge", "wan0", f'{{blacklist: {{enabled: true, ips: ["{ATTACKER}"]}}}}')


@dataclass(frozen=True)
class Site:
    """A machine as the router between two hosts."""

    machine: Machine
    wan: lab.Namespace
    lan: lab.Namespace

    def connect(self) -> None:
        """Plug the cables in; anew after each boot."""
        for host, theirs, ours, net in (
            (self.wan, f"{WAN}.2/24", "wan0", WAN),
            (self.lan, f"{LAN}.2/24", "lan0", LAN),
        ):
            ends = ("name", "eth0", "type", "veth", "peer", "name", ours)
            host.ip("link", "add", *ends, "netns", str(self.machine.pid))
            host.ip("link", "set", "dev", "eth0", "up")
            host.ip("addr", "add", theirs, "dev", "eth0")
            host.ip("route", "add", "default", "via", f"{net}.1")
            self.machine.sh(f"ip addr add {net}.1/24 dev {ours}; ip link set {ours} up")
        self.wan.ip("addr", "add", f"{ATTACKER}/24", "dev", "eth0")
        self.machine.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")

    def ping(self, source: str = f"{WAN}.2") -> bool:
        """Whether a ping from an address on the wan to the lan is answered."""
        words = ("ping", "-n", "-q", "-c", "1", "-W", "0.3", "-I", source, f"{LAN}.2")
        return ", 0% packet loss" in self.wan.run(*words, check=False)

    def blocked(self) -> bool:
        """Whether the attacker is dropped and another passes."""
        return not self.ping(ATTACKER) and self.ping()

    def pins(self) -> str:
        """Return what is pinned."""
        return self.machine.sh("cd /sys/fs/bpf && find . ! -type d | sort")

    def program(self) -> str:
        """Return the id of the XDP program on the outside, "" if there is none."""
        words = self.machine.sh("ip -d link show dev wan0").split()
        return words[words.index("prog/xdp") + 2] if "prog/xdp" in words else ""


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine without fos1d."""
    try:
        with machine(tmp_path_factory.mktemp("machine")) as made:
            yield made
    except NoMachine as why:
        pytest.skip(f"no machine can run here: {why}")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine after `make install`."""
    prepare()
    try:
        with machine(tmp_path_factory.mktemp("machine")) as made:
            made.run("make", "-C", str(ROOT), "install", timeout_s=300)
            yield made
    except NoMachine as why:
        pytest.skip(f"no machine can run here: {why}")


def prepare() -> None:
    """Fetch what an installation is made of, since a machine has no Internet."""
    for words in (["make", "setup"], ["sh", "packaging/install.sh", "build"]):
        subprocess.run(words, cwd=ROOT, check=True, timeout=600)


def reset(made: Machine) -> None:
    """Bring a machine back to where it was just installed."""
    made.sh(f"""
        systemctl stop fos1d
        rm -rf {DROP_INS} /var/lib/fos1d {POLICY} /sys/fs/bpf/fos1
        mkdir -p {POLICY}
        systemctl daemon-reload
        systemctl reset-failed
        cp {ROOT}/packaging/fos1d.toml /etc/fos1d/fos1d.toml
    """)


@pytest.fixture
def site(installed: Machine) -> Iterator[Site]:
    """The installed machine between two hosts, with a policy that is not in force yet."""
    with lab.namespaces("wan", "lan") as (wan, lan):
        reset(installed)
        made = Site(installed, wan, lan)
        made.connect()
        installed.write(f"{POLICY}/edge.yaml", EDGE)
        yield made


@pytest.fixture
def running(site: Site) -> Site:
    """The same, the daemon started and the attacker blocked."""
    site.machine.run("systemctl", "start", "fos1d")
    until(site.blocked, 5)
    return site
