"""The unit under a real systemd: what it says, how it is brought back, what it may do."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.running import until
from tests.systemd.conftest import ATTACKER, DROP_INS, EDGE, POLICY, Site

pytestmark = pytest.mark.netns

UNIT = "/usr/local/lib/systemd/system/fos1d.service"


def test_the_unit_is_clean_and_tight(site: Site) -> None:
    done = site.machine.run("systemd-analyze", "verify", UNIT)
    assert done.stdout + done.stderr == ""
    said = site.machine.run("systemd-analyze", "security", "--offline=true", UNIT).stdout
    exposure = re.search(r"exposure level for fos1d.service: ([\d.]+)", said)
    assert exposure and float(exposure[1]) <= 2.0, said


def _sent_us(entry: Mapping[str, str]) -> int:
    """Return the monotonic time at which an entry was sent; journald took it up later."""
    waited = int(entry["__REALTIME_TIMESTAMP"]) - int(entry["_SOURCE_REALTIME_TIMESTAMP"])
    return int(entry["__MONOTONIC_TIMESTAMP"]) - waited


def test_it_is_started_only_when_the_first_pass_is_over(site: Site) -> None:
    site.machine.run("systemctl", "start", "fos1d")
    assert site.blocked()
    entered = site.machine.active_since_us("fos1d.service")
    created = site.machine.entries("-t", "fos1d", "FOS1_REASON=Created", "FOS1_NAME=edge")[-1]
    assert _sent_us(created) < entered


def test_status_tells_it_in_one_line(running: Site) -> None:
    shown = running.machine.run("systemctl", "status", "fos1d").stdout
    assert re.search(r'Status: "directory@[0-9a-f]{12}: 1 of 1 Ready"', shown), shown
    running.machine.write(f"{POLICY}/other.yaml", EDGE.replace("edge", "x").replace("wan0", "wan9"))
    wanted = "1 of 2 Ready; EBPFProgram/default/x: no interface"
    until(lambda: wanted in running.machine.unit("StatusText")["StatusText"], 5, wanted)


def test_reload_makes_a_pass(running: Site) -> None:
    before = running.machine.status()["passes"]["count"]
    running.machine.run("systemctl", "reload", "fos1d")
    until(lambda: running.machine.status()["passes"]["count"] > before, 5)
    until(lambda: running.machine.unit("ActiveState")["ActiveState"] == "active", 5)
    said = [entry["MESSAGE"] for entry in running.machine.entries("-u", "fos1d")]
    assert any(line.startswith("Reloaded fos1d.service") for line in said)


def test_the_journal_has_fields(running: Site) -> None:
    fields = ("FOS1_KIND=EBPFProgram", "FOS1_NAME=edge", "FOS1_REASON=Ready")
    entry = running.machine.entries(*fields)[-1]
    assert entry["SYSLOG_IDENTIFIER"] == "fos1d"
    assert entry["_SYSTEMD_UNIT"] == "fos1d.service"
    assert entry["FOS1_NAMESPACE"] == "default"
    assert entry["FOS1_REVISION"].startswith("directory@")
    assert entry["PRIORITY"] == "6"
    assert entry["MESSAGE_ID"] == "0f9cc735800351fa8a93618917d84dd5"
    assert "objects read back" in entry["MESSAGE"]


def test_fos1ctl_logs_are_the_journals(running: Site) -> None:
    said = running.machine.run("fos1ctl", "logs", "ebpf/edge").stdout
    assert "created" in said and "objects read back" in said
    assert running.machine.run("fos1ctl", "logs", "ebpf/none").stdout.strip() in (
        "",
        "-- No entries --",
    )


def test_killed_it_comes_back_to_the_same_state(running: Site) -> None:
    machine = running.machine
    before, number, pid = running.pins(), running.program(), machine.main_pid()
    machine.run("kill", "-9", str(pid))
    assert running.blocked()
    until(lambda: machine.main_pid() not in (0, pid) and machine.status(), 15)
    until(lambda: machine.unit("SubState")["SubState"] == "running", 5)
    assert (running.pins(), running.program()) == (before, number)
    assert int(machine.unit("NRestarts")["NRestarts"]) == 1
    assert running.blocked()


def test_one_that_hangs_is_killed_and_started_again(site: Site) -> None:
    machine = site.machine
    machine.write(f"{DROP_INS}/quick.conf", "[Service]\nWatchdogSec=2\nRestartSec=100ms\n")
    machine.sh("systemctl daemon-reload; systemctl start fos1d; sleep 3")
    pid = machine.main_pid()
    assert machine.unit("NRestarts")["NRestarts"] == "0", "pings keep it alive"
    machine.run("kill", "-STOP", str(pid))
    until(lambda: machine.main_pid() not in (0, pid) and machine.status(), 20)
    assert site.blocked()
    said = "\n".join(str(entry["MESSAGE"]) for entry in machine.entries("-u", "fos1d"))
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said, "its stacks are in the journal"
    assert "fos1d/wakes.py" in said


def test_stopping_leaves_the_data_path(running: Site) -> None:
    before, number = running.pins(), running.program()
    running.machine.run("systemctl", "stop", "fos1d")
    assert running.blocked()
    assert (running.pins(), running.program()) == (before, number)
    state = running.machine.unit("ActiveState", "Result")
    assert state == {"ActiveState": "inactive", "Result": "success"}
    running.machine.run("systemctl", "start", "fos1d")
    assert (running.pins(), running.program()) == (before, number)


def test_wrong_settings_are_told_and_their_correction_is_found(site: Site) -> None:
    machine = site.machine
    machine.write("/etc/fos1d/fos1d.toml", '[source]\npth = "/nowhere"\n')
    assert machine.run("systemctl", "start", "fos1d", check=None).returncode != 0
    said = "\n".join(str(entry["MESSAGE"]) for entry in machine.entries("-u", "fos1d"))
    assert 'fos1d.toml:2: source.pth: unknown key; did you mean "path"?' in said
    machine.write("/etc/fos1d/fos1d.toml", "")
    until(site.blocked, 10, "it is started again by itself")


# What it may


def test_it_has_three_capabilities_and_no_more(running: Site) -> None:
    pid = running.machine.main_pid()
    rows = running.machine.sh(f"cat /proc/{pid}/status").splitlines()
    status = dict(row.split(":\t", 1) for row in rows if ":\t" in row)
    three = 1 << 12 | 1 << 38 | 1 << 39  # CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == three, name
    for name in ("CapInh", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_it_can_write_to_its_own_places_only(running: Site) -> None:
    pid = running.machine.main_pid()
    for place in ("/usr", "/etc/fos1d", "/root", "/sys/fs/cgroup", "/srv"):
        done = running.machine.run(
            "nsenter", "-t", str(pid), "-m", "touch", f"{place}/x", check=None
        )
        assert "Read-only file system" in done.stderr, place
    for place in ("/sys/fs/bpf/x", "/var/lib/fos1d/x", "/run/fos1d/x"):
        running.machine.run("nsenter", "-t", str(pid), "-m", "mkdir", place)
        running.machine.run("rmdir", place)
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    write = ("sh", "-c", f"echo 1 >{forwarding}")
    assert running.machine.run("nsenter", "-t", str(pid), "-m", *write, check=None).returncode


def test_policy_files_of_others_work(running: Site) -> None:
    """Without CAP_LEASE the kernel does not tell who is writing them; they are taken anyway."""
    machine = running.machine
    machine.write(f"{POLICY}/edge.yaml", EDGE.replace(".66", ".67"))
    machine.run("chown", "nobody:nogroup", f"{POLICY}/edge.yaml")
    until(lambda: running.ping(ATTACKER), 5)
    machine.sh(
        f'chown nobody {POLICY}; su -s /bin/sh nobody -c "sed -i s/.67/.66/ {POLICY}/edge.yaml"'
    )
    until(running.blocked, 5)
    machine.run("chmod", "600", f"{POLICY}/edge.yaml")
    machine.run("systemctl", "reload", "fos1d")
    until(lambda: "cannot be read: Permission denied" in machine.status()["source"]["error"], 5)
    assert running.blocked()


# Who may


def test_group_fos1_may_use_the_api_and_others_may_not(running: Site) -> None:
    machine = running.machine
    machine.sh("id ada 2>/dev/null || useradd -G fos1 ada; id eve 2>/dev/null || useradd eve")
    assert machine.sh("stat -c '%U %G %a' /run/fos1d/api.sock") == "root fos1 660\n"
    for words in (("status",), ("reconcile", "--wait")):
        machine.run("runuser", "-u", "ada", "--", "fos1ctl", *words)
        refused = machine.run("runuser", "-u", "eve", "--", "fos1ctl", *words, check=None)
        assert refused.returncode in (4, 5), refused
        assert "ermission" in refused.stderr or "fos1" in refused.stderr
