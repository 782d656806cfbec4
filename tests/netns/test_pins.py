"""Pins that a foreign hand removes, wherever they are, are back within a second or so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import lab
from tests.applied import HEAD, program
from tests.netns.conftest import WAN4, Site
from tests.running import until

pytestmark = pytest.mark.netns

QUICK_S = 2.0
ATTACKER = f"{WAN4}.66"
BLOCK = f'{{blacklist: {{enabled: true, ips: ["{ATTACKER}"]}}}}'


def aliased(path: Path) -> str:
    return (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: bad}}\nspec:\n  type: hash\n  keySize: 4\n"
        f"  valueSize: 4\n  maxEntries: 8\n  pinPath: {path}\n"
    )


@pytest.fixture
def alias(site: Site) -> Path:
    """The path at which a user's tool finds a map; nothing else wakes a pass."""
    path = site.router.bpffs.parent / "tools/bad"
    site.router.settings = '[reconcile]\nresync = "1h"'
    site.router.write_settings()
    site.router.write("map.yaml", aliased(path))
    site.router.start()
    until(path.exists, QUICK_S)
    return path


def test_a_removed_alias_is_put_back(alias: Path) -> None:
    for _ in range(3):
        alias.unlink()
        until(alias.exists, QUICK_S, "the alias is back")


def test_an_alias_is_put_back_along_with_its_folder(alias: Path) -> None:
    for _ in range(3):
        shutil.rmtree(alias.parent)
        until(alias.exists, QUICK_S, "the alias and its folder are back")


def test_an_alias_that_moved_is_watched_where_it_is(site: Site, alias: Path) -> None:
    moved = alias.parent.with_name("elsewhere") / "bad"
    site.router.write("map.yaml", aliased(moved))
    until(lambda: moved.exists() and not alias.exists(), QUICK_S)
    moved.unlink()
    until(moved.exists, QUICK_S, "the alias is back")


def test_a_strangers_pins_beside_an_alias_wake_nobody(site: Site, alias: Path) -> None:
    def passes() -> int:
        return int(site.router.status()["passes"]["count"])

    site.router.ctl("reconcile", "--wait")
    before = passes()
    for number in range(5):
        (alias.parent / f"stranger{number}").mkdir()
    site.router.ctl("reconcile", "--wait")
    assert passes() == before + 1


def unmounted(place: Path) -> bool:
    """Unmount it, unless somebody looks into it just now."""
    return subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0


def test_an_unmounted_bpffs_is_mounted_and_filled_again(site: Site, tmp_path: Path) -> None:
    site.router.bpffs = tmp_path / "bpf"
    site.router.write_settings()
    site.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    try:
        site.router.start()
        until(lambda: site.router.ready("ebpf", "edge"), QUICK_S)
        pins = sorted(site.router.bpffs.rglob("*"))
        until(lambda: unmounted(site.router.bpffs), QUICK_S, "the daemon does not look into it")
        assert not site.ping(ATTACKER), "XDP stays while its pins are gone"
        until(lambda: sorted(site.router.bpffs.rglob("*")) == pins, QUICK_S, "all is pinned again")
        assert not site.ping(ATTACKER)
        assert site.ping(f"{WAN4}.2")
        until(lambda: site.router.ready("ebpf", "edge"), QUICK_S)
    finally:
        site.router.stop()
        lab.command("umount", str(site.router.bpffs))
