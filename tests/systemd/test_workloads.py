"""Real units are workloads, found from within the daemon's own sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import until
from tests.systemd.conftest import DROP_INS, reset
from tests.systemd.machine import Machine

pytestmark = pytest.mark.netns

UNITS = "/etc/systemd/system"
FILES = "/etc/fos1d/workloads.d"
SCRIPT = "/etc/fos1d/watch.py"

# In place of the daemon, with its sandbox: every change is told in the journal, with its time.
WATCH = """
import json, threading, time
from pathlib import Path
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.operators import operator_connections, ssh_cgroups
from fos1d.kernel.workloads.watch import Places, WorkloadWatch

changed = threading.Event()
places = Places(Cgroupfs(), Path("/etc/fos1d/workloads.d"), Path("/run/fos1d/containers.json"))
watch = WorkloadWatch(places, changed.set)
watch.start()
while True:
    operator_connections(ssh_cgroups(watch.workloads()), {22})
    found = {w.cgroup: {"name": w.name, "labels": w.labels, "trusted": w.trusted}
             for w in watch.workloads()}
    print(json.dumps({"at": time.monotonic(), "found": found, "problems": watch.problems()}),
          flush=True)
    changed.wait()
    changed.clear()
"""
DROP_IN = f"""
[Service]
Type=exec
WatchdogSec=0
ExecStart=
ExecStart=/usr/local/lib/fos1d/bin/python -I {SCRIPT}
"""
DATABASE = """
[Service]
ExecStart=/bin/sleep infinity
[X-Fos1]
Labels=app=database tier=db
"""


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """The machine; what watches there is the daemon's unit."""
    reset(installed)
    installed.write(SCRIPT, WATCH)
    installed.write(f"{DROP_INS}/watch.conf", DROP_IN)
    installed.write(f"{UNITS}/db.service", DATABASE)
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "start", "fos1d")
    until(lambda: told(installed), 10, "it watches")
    yield installed
    installed.sh(f"systemctl stop db fos1d; rm -rf {UNITS}/db.service* {FILES}/* {DROP_INS}")
    installed.run("systemctl", "daemon-reload")


def told(machine: Machine) -> list[dict[str, Any]]:
    """Return what was told since the unit started last."""
    invocation = machine.unit("InvocationID")["InvocationID"]
    entries = machine.entries(f"_SYSTEMD_INVOCATION_ID={invocation}")
    return [json.loads(entry["MESSAGE"]) for entry in entries if entry["MESSAGE"][0] == "{"]


def labels(machine: Machine, cgroup: str) -> dict[str, str]:
    """Return the labels of a cgroup as they were told last."""
    said: dict[str, str] = told(machine)[-1]["found"].get(cgroup, {}).get("labels", {})
    return said


def test_a_unit_is_known_soon_after_its_start(machine: Machine) -> None:
    machine.run("systemctl", "start", "db")
    until(lambda: labels(machine, "system.slice/db.service"), 5)
    assert labels(machine, "system.slice/db.service") == {
        "app": "database",
        "tier": "db",
        "systemd.io/unit": "db.service",
        "systemd.io/slice": "system.slice",
    }
    first = next(said for said in told(machine) if "system.slice/db.service" in said["found"])
    shown = machine.run("systemctl", "show", "db", "-p", "ExecMainStartTimestampMonotonic").stdout
    took = first["at"] - int(shown.partition("=")[2]) / 1e6
    print(f"known {took * 1000:.0f} ms after its process began")
    assert took < 0.1
    assert labels(machine, "system.slice")["systemd.io/unit"] == "system.slice"
    machine.run("systemctl", "stop", "db")
    until(lambda: not labels(machine, "system.slice/db.service"), 5)


def test_a_drop_in_and_a_file_add_their_labels(machine: Machine) -> None:
    machine.run("systemctl", "start", "db")
    machine.write(f"{UNITS}/db.service.d/more.conf", "[X-Fos1]\nLabels=site=fra wrong\n")
    machine.write(f"{UNITS}/db.service.d/more2.conf", "[X-Fos1]\nLabels=rack=7\n")
    until(lambda: labels(machine, "system.slice/db.service").get("rack") == "7", 5)
    problem = f"{UNITS}/db.service.d/more.conf:2: [X-Fos1] `wrong` is no label; write key=value"
    assert told(machine)[-1]["problems"] == [problem]
    text = "workloads: [{name: db, labels: {owner: me}, cgroups: [system.slice/db.service]}]"
    machine.write(f"{FILES}/db.yaml", text)
    until(lambda: labels(machine, "system.slice/db.service").get("owner") == "me", 5)
    assert labels(machine, "system.slice/db.service")["app"] == "database"


def test_systemd_itself_does_not_mind(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", f"{UNITS}/db.service")
    assert done.stdout + done.stderr == ""


def test_a_transient_unit_of_a_slice_is_a_workload(machine: Machine) -> None:
    machine.run("systemd-run", "--unit=job", "--slice=shop-web", "/bin/sleep", "infinity")
    place = "shop.slice/shop-web.slice/job.service"
    until(lambda: labels(machine, place).get("systemd.io/slice") == "shop-web.slice", 5)
    machine.run("systemctl", "stop", "job")
    until(lambda: not labels(machine, place), 5)
