"""A second boot: the kernel holds nothing, /run is empty, and the state is found all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.running import until
from tests.systemd.conftest import ATTACKER, EDGE, POLICY, Site

pytestmark = pytest.mark.netns


@pytest.fixture
def enabled(running: Site) -> Iterator[Site]:
    """The daemon runs, and will after a boot."""
    running.machine.run("systemctl", "enable", "fos1d")
    yield running
    running.machine.run("systemctl", "disable", "fos1d")


def boot_again(site: Site, switch_off: Callable[[], None]) -> None:
    before = site.machine.sh("cat /proc/sys/kernel/random/boot_id")
    switch_off()
    site.machine.boot()
    assert site.machine.sh("cat /proc/sys/kernel/random/boot_id") != before
    assert site.machine.unit("ActiveState")["ActiveState"] == "active"
    site.connect()


def test_after_an_orderly_reboot(enabled: Site) -> None:
    boot_again(enabled, enabled.machine.shut_down)
    until(enabled.blocked, 5)
    ends = enabled.machine.sh("journalctl -b -1 -u fos1d -o cat -n 5")
    assert "Stopped fos1d.service" in ends
    assert enabled.machine.run("fos1ctl", "history").stdout.count("directory@") == 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (f"rm -r {POLICY}", "No such file"),
        (f"echo 'apiVersion: [unclosed' >{POLICY}/edge.yaml", "edge.yaml:"),
        (f"chmod 0 {POLICY}/edge.yaml", "Permission denied"),
    ],
    ids=["missing", "broken", "unreadable"],
)
def test_after_a_power_cut_with_a_source_that_is(enabled: Site, harm: str, said: str) -> None:
    machine = enabled.machine
    machine.run("systemctl", "kill", "-s", "STOP", "fos1d")  # so that it learns nothing of the harm
    machine.sh(harm)
    boot_again(enabled, machine.cut_power)
    until(enabled.blocked, 5, "what was in force is in force")
    assert said in machine.run("fos1ctl", "status", check=None).stdout
    machine.sh(f"rm -rf {POLICY}")
    machine.write(f"{POLICY}/edge.yaml", EDGE.replace(ATTACKER, "198.51.100.9"))
    until(lambda: enabled.ping(ATTACKER), 10, "a mended source is taken up")


def test_policy_is_in_force_before_the_network_is_configured(enabled: Site) -> None:
    machine = enabled.machine
    boot_again(enabled, machine.shut_down)
    entered = machine.active_since_us("fos1d.service")
    assert 0 < entered <= machine.active_since_us("network-pre.target")
    assert not machine.sh("systemctl --failed --no-legend")
