"""Faults of the machine around the daemon: it goes on, and says what is the matter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import lab
from tests.applied import program
from tests.netns.conftest import WAN4, Site
from tests.running import until

pytestmark = pytest.mark.netns

ATTACKER = f"{WAN4}.66"
BLOCK = f'{{blacklist: {{enabled: true, ips: ["{ATTACKER}"]}}}}'


@pytest.fixture
def small(site: Site) -> Iterator[Site]:
    """A site whose state folder is a file system of 256 kB."""
    state = str(site.router.folder / "state")
    lab.command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", state)
    site.router.write("edge.yaml", program("edge", "wan0", BLOCK))
    site.router.start()
    yield site
    site.router.stop()
    lab.command("umount", state)


def test_a_full_disk_below_the_state_takes_nothing_from_a_pass(small: Site) -> None:
    router = small.router
    filler = router.folder / "state/filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(1 << 20))
    router.write("other.yaml", program("other", "lan0", "{}"))
    until(lambda: router.ready("ebpf", "other"), 5)
    assert not small.ping(ATTACKER)
    assert "StateNotKept" in router.ctl("events").stdout
    router.kill()
    router.start()
    assert router.ready("ebpf", "other") and not small.ping(ATTACKER)
    filler.unlink()
    router.ctl("reconcile", "--wait")
    (newest, *_) = router.json("history")["items"]
    assert newest["total"] == 2, "what could not be written is written later"


def test_an_interface_in_another_namespace_and_back(small: Site) -> None:
    router = small.router
    router.ip("link", "set", "dev", "wan0", "netns", small.lan.name)
    until(lambda: not router.ready("ebpf", "edge"), 5)
    assert router.condition("ebpf", "edge")["reason"] == "InterfaceMissing"
    small.lan.ip("link", "set", "dev", "wan0", "netns", router.namespace.name)
    router.ip("link", "set", "dev", "wan0", "up")
    router.ip("addr", "add", f"{WAN4}.1/24", "dev", "wan0")
    until(lambda: router.ready("ebpf", "edge"), 5)
    until(lambda: small.ping(f"{WAN4}.2"), 5)
    assert not small.ping(ATTACKER)
