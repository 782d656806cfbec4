"""Cgroups that come are known within 100 ms; files and unit files count when they are written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.workloads.watch import Places, WorkloadWatch, find_workloads
from fos1d.model.workload import Workload
from tests.running import until

pytestmark = pytest.mark.kernel

SOON_S = 0.1


class Watched:
    """A watch below folders of its own."""

    def __init__(self, cgroup: Path, folder: Path) -> None:
        self.cgroup = cgroup
        self.files = folder / "etc/fos1d/workloads.d"
        self.units = folder / "etc/systemd/system"
        self.units.mkdir(parents=True)
        self.files.mkdir(parents=True)
        self.calls = 0
        self.places = Places(Cgroupfs(cgroup), self.files, folder / "memory.json", folder)
        self.watch = WorkloadWatch(self.places, self._count)

    def _count(self) -> None:
        self.calls += 1

    def at(self, path: str) -> Workload | None:
        return next((w for w in self.watch.workloads() if w.cgroup == path), None)

    def labels(self, path: str) -> dict[str, str]:
        workload = self.at(path)
        return dict(workload.labels) if workload else {}


@pytest.fixture
def watched(cgroup: Path, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(cgroup, tmp_path)
    made.watch.start()
    yield made
    made.watch.stop()


def soon(true: Callable[[], object]) -> None:
    assert until(true, 5) < SOON_S


def test_a_cgroup_that_comes_is_known_soon_and_one_that_goes_is_forgotten(
    watched: Watched,
) -> None:
    place = watched.cgroup / "system.slice/a.service"
    place.mkdir(parents=True)
    soon(lambda: watched.at("system.slice/a.service"))
    first = watched.at("system.slice/a.service")
    assert first and first.cgroup_id == place.stat().st_ino
    soon(lambda: watched.calls)
    place.rmdir()
    place.mkdir()
    soon(lambda: watched.at("system.slice/a.service") not in (None, first))
    place.rmdir()
    soon(lambda: not watched.at("system.slice/a.service"))


def test_what_is_no_workload_wakes_nobody(watched: Watched) -> None:
    (watched.cgroup / "misc").mkdir()
    (watched.cgroup / "misc/inner").mkdir()
    until(lambda: "misc/inner" in watched.watch._cgroups, 5)
    assert watched.calls == 0


def test_many_that_come_and_go_leave_the_right_ones(watched: Watched) -> None:
    """Whatever the order of events, the end is what is there."""

    def churn(name: str) -> None:
        for number in range(60):
            for path in (f"{name}.slice", f"{name}.slice/{number % 3}.service"):
                (watched.cgroup / path).mkdir(exist_ok=True)
            if number % 4 == 3:
                (watched.cgroup / f"{name}.slice/{(number - 1) % 3}.service").rmdir()

    threads = [threading.Thread(target=churn, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def is_right() -> bool:
        there = find_workloads(watched.places)
        return there == watched.watch.workloads()

    until(is_right, 5)
    assert len(watched.watch.workloads()) > 8


def test_static_files_count_when_they_are_written(watched: Watched) -> None:
    (watched.cgroup / "db").mkdir()
    staged = watched.files / ".db.yaml.new"
    staged.write_text("workloads: [{name: db, labels: {app: db}, cgroups: [db]}]")
    staged.rename(watched.files / "db.yaml")
    soon(lambda: watched.labels("db") == {"app": "db"})
    (watched.files / "db.yaml").write_text("workloads: [{name: db}]")
    soon(lambda: "cgroups is required" in "".join(watched.watch.problems()))
    assert watched.labels("db") == {"app": "db"}
    (watched.files / "db.yaml").unlink()
    soon(lambda: not watched.at("db"))
    assert watched.watch.problems() == ()


def test_a_folder_of_files_may_come_later(cgroup: Path, tmp_path: Path) -> None:
    made = Watched(cgroup, tmp_path)
    made.files.rmdir()
    made.watch.start()
    try:
        (cgroup / "db").mkdir()
        made.files.mkdir()
        time.sleep(0.05)
        (made.files / "a.yaml").write_text("workloads: [{name: db, cgroups: [db]}]")
        soon(lambda: made.at("db"))
    finally:
        made.watch.stop()


def test_drop_ins_count_when_they_are_written(watched: Watched) -> None:
    (watched.cgroup / "system.slice/a.service").mkdir(parents=True)
    soon(lambda: watched.at("system.slice/a.service"))
    drop_ins = watched.units / "a.service.d"
    drop_ins.mkdir()
    (drop_ins / "x.conf").write_text("[X-Fos1]\nLabels=app=db\n")
    soon(lambda: watched.labels("system.slice/a.service").get("app") == "db")
    (drop_ins / "x.conf").write_text("[X-Fos1]\nLabels=app=web\n")
    soon(lambda: watched.labels("system.slice/a.service").get("app") == "web")


def test_nothing_runs_while_nothing_happens(watched: Watched) -> None:
    time.sleep(0.1)
    before = os.times()
    time.sleep(1)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.02


def test_a_delegated_cgroup_brings_nothing_to_trust(watched: Watched) -> None:
    (watched.files / "a.yaml").write_text(
        "workloads: [{name: db, labels: {app: db}, cgroups: [given/db, given]}]"
    )
    place = watched.cgroup / "given"
    (place / "db").mkdir(parents=True)
    until(lambda: (found := watched.at("given/db")) and found.trusted, 5)
    os.chown(place, 1000, 1000)
    until(lambda: (found := watched.at("given/db")) and not found.trusted, 5)
    (place / "db").rmdir()
    until(lambda: not watched.at("given/db"), 5)
    (place / "db").mkdir()
    until(lambda: watched.at("given/db"), 5)
    inner, outer = watched.at("given/db"), watched.at("given")
    assert inner and not inner.trusted and inner.labels == {"app": "db"}
    assert outer and outer.trusted
    os.chown(place, 0, 0)
    until(lambda: (found := watched.at("given/db")) and found.trusted, 5)
