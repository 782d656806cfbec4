"""`make install` again, and `make uninstall`: what they keep and what they take."""

from __future__ import annotations

import pytest

from tests.flow import steady_flow
from tests.running import ROOT
from tests.systemd.conftest import LAN, WAN, Site

pytestmark = pytest.mark.netns


def test_installed_again_it_keeps_settings_and_runs_on(running: Site) -> None:
    machine = running.machine
    machine.sh("echo '[node]\nname = \"edge-7\"' >/etc/fos1d/fos1d.toml")
    pid, number = machine.main_pid(), running.program()
    with steady_flow(running.wan, running.lan, f"{WAN}.2", f"{LAN}.2") as flow:
        said = machine.run("make", "-C", str(ROOT), "install", timeout_s=300).stdout
    assert "restarted" in said
    assert machine.main_pid() not in (0, pid)
    assert "edge-7" in machine.run("fos1ctl", "status").stdout
    assert running.program() == number, "nothing was replaced"
    assert running.blocked()
    assert flow.sent > 500
    assert flow.lost() == []


def test_uninstalled_it_leaves_settings_state_and_data_path(running: Site) -> None:
    machine = running.machine
    machine.run("systemctl", "enable", "fos1d")
    said = machine.run("make", "-C", str(ROOT), "uninstall").stdout
    try:
        assert "Kept: /etc/fos1d, /var/lib/fos1d" in said
        assert "fos1d purge" in said
        assert running.blocked()
        places = "/usr/local /etc/systemd/system -name '*fos1*'"
        assert machine.sh(f"find {places}") == ""
        assert "edge.yaml" in machine.sh("ls /etc/fos1d/policy /var/lib/fos1d")
    finally:
        machine.run("make", "-C", str(ROOT), "install", timeout_s=300)
    machine.run("systemctl", "start", "fos1d")
    said = machine.run("fos1ctl", "events").stdout
    assert "Created" not in said and "Replaced" not in said, "it found its own again"
