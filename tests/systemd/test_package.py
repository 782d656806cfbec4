"""The Debian package: installed, upgraded, removed, installed again, purged."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lab
from tests.applied import program
from tests.flow import steady_flow
from tests.running import ROOT, until
from tests.systemd.conftest import ATTACKER, LAN, POLICY, WAN, Site
from tests.systemd.machine import Machine

pytestmark = pytest.mark.netns

EDGE = program(
    "edge", "wan0", f'{{stateful: true, blacklist: {{enabled: true, ips: ["{ATTACKER}"]}}}}'
)


def build(version: str) -> Path:
    """Build the package, quickly, under a version."""
    environment = {**os.environ, "DEB_VERSION": version, "DEB_COMPRESS": "none"}
    subprocess.run(["sh", "packaging/deb.sh"], cwd=ROOT, env=environment, check=True, timeout=600)
    (made,) = (ROOT / "dist").glob(f"fos1d_{version}_*.deb")
    return made


@pytest.fixture(scope="module")
def packages() -> Iterator[list[Path]]:
    """Two versions, of which the second is the newest."""
    made = [build(version) for version in ("0.0.1~test1", "0.0.1~test2")]
    yield made
    for package in made:
        package.unlink()


@pytest.fixture
def packaged(bare: Machine) -> Iterator[Site]:
    """A machine between two hosts, without fos1d."""
    with lab.namespaces("wan", "lan") as (wan, lan):
        bare.sh("dpkg -P fos1d >/dev/null 2>&1; rm -rf /etc/fos1d /sys/fs/bpf/fos1")
        site = Site(bare, wan, lan)
        site.connect()
        bare.write(f"{POLICY}/edge.yaml", EDGE)
        yield site


def dpkg(machine: Machine, *words: str) -> str:
    """Run dpkg without questions; return what it said."""
    done = machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words)
    return done.stdout + done.stderr


def dropped(machine: Machine) -> int:
    """Return how many packets the program has dropped."""
    shown = machine.run("fos1ctl", "describe", "ebpf/edge").stdout
    (row,) = (line for line in shown.splitlines() if "drop-blacklist" in line)
    return int(row.split()[1].replace(",", ""))


def test_install_upgrade_downgrade(packaged: Site, packages: list[Path]) -> None:
    machine, (first, second) = packaged.machine, packages
    dpkg(machine, "-i", str(first))
    until(packaged.blocked, 5)
    assert machine.unit("UnitFileState", "ActiveState") == {
        "UnitFileState": "enabled",
        "ActiveState": "active",
    }
    assert machine.sh("stat -c %G /run/fos1d/api.sock") == "fos1\n"
    assert machine.run("systemd-analyze", "verify", "fos1d.service").stderr == ""
    machine.sh("echo '# mine' >>/etc/fos1d/fos1d.toml")
    number, pins, before = packaged.program(), packaged.pins(), dropped(machine)
    assert before > 0
    with steady_flow(packaged.wan, packaged.lan, f"{WAN}.2", f"{LAN}.2") as flow:
        for package in (second, first):
            dpkg(machine, "-i", str(package))
            assert machine.unit("ActiveState")["ActiveState"] == "active"
            assert (packaged.program(), packaged.pins()) == (number, pins)
            assert packaged.blocked()
    assert flow.sent > 500
    assert flow.lost() == []
    assert dropped(machine) > before, "counters go on"
    assert machine.sh("tail -n 1 /etc/fos1d/fos1d.toml") == "# mine\n"


def test_remove_and_install_again(packaged: Site, packages: list[Path]) -> None:
    machine = packaged.machine
    dpkg(machine, "-i", str(packages[0]))
    until(packaged.blocked, 5)
    number, pins = packaged.program(), packaged.pins()
    said = dpkg(machine, "-r", "fos1d")
    assert "data path stays in force" in said
    assert packaged.blocked()
    assert machine.sh("ls /usr/lib/fos1d /usr/bin/fos1d 2>/dev/null || true") == ""
    assert "inforce.json" in machine.sh("ls /var/lib/fos1d")
    dpkg(machine, "-i", str(packages[0]))
    assert (packaged.program(), packaged.pins()) == (number, pins)
    assert machine.unit("ActiveState")["ActiveState"] == "active"


def test_purge_leaves_nothing_but_the_policy(packaged: Site, packages: list[Path]) -> None:
    machine = packaged.machine
    dpkg(machine, "-i", str(packages[0]))
    until(packaged.blocked, 5)
    said = dpkg(machine, "-P", "fos1d")
    assert "removing the data path" in said and "still in the kernel" not in said, said
    assert packaged.program() == ""
    assert packaged.ping(ATTACKER)
    left = machine.sh("find /etc /usr /var/lib /run -xdev -name 'fos1*' ! -path '/var/lib/dpkg/*'")
    assert left == "/etc/fos1d\n"
    assert machine.sh("find /etc/fos1d -type f") == f"{POLICY}/edge.yaml\n"
    assert packaged.pins() == "./maps.debug\n./progs.debug\n"
