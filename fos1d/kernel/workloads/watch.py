"""The workloads of now, and a call when they change. While nothing happens, nothing runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fos1d.errors import KernelError
from fos1d.kernel.cgroup import Cgroupfs
from fos1d.kernel.workloads.folders import CONTENTS, Folders
from fos1d.kernel.workloads.following import Engines
from fos1d.kernel.workloads.identify import container_places, identify
from fos1d.kernel.workloads.memory import recall, remember
from fos1d.kernel.workloads.static import StaticFiles
from fos1d.kernel.workloads.tree import Cgroup, is_below, join, walk
from fos1d.kernel.workloads.units import SEARCH_PATH, UnitLabels, unit_at, unit_labels
from fos1d.kinds.workload_file import WorkloadFile
from fos1d.model.workload import Workload

WATCHED_UNITS = (Path("etc/systemd/system"), Path("run/systemd/system"))


@dataclass(frozen=True, slots=True)
class Places:
    """Where workloads are looked for. `root` stands for `/`; `memory` outlives the daemon."""

    cgroups: Cgroupfs
    files: Path
    memory: Path | None = None
    root: Path = Path("/")

    @property
    def search_path(self) -> tuple[Path, ...]:
        """The folders of systemd's units."""
        return tuple(self.root / place.relative_to("/") for place in SEARCH_PATH)


@dataclass(slots=True)
class _Changes:
    """What changed since the last look."""

    folders: set[Path] = field(default_factory=set)
    everything: bool = False
    engines: bool = False

    def __bool__(self) -> bool:
        return bool(self.folders) or self.everything or self.engines


def find_workloads(places: Places) -> tuple[Workload, ...]:
    """Look once."""
    watch = WorkloadWatch(places)
    try:
        return watch.look()
    finally:
        watch.stop()


class WorkloadWatch:
    """Finds workloads and calls `changed`, in a thread of its own, when they are others."""

    def __init__(self, places: Places, changed: Callable[[], None] = lambda: None) -> None:
        self._places = places
        self._changed = changed
        self._static = StaticFiles(places.files)
        self._documents: list[WorkloadFile] = []
        self._labels: dict[str, UnitLabels] = {}
        self._cgroups: dict[str, Cgroup] = {}
        self._containers: frozenset[str] = frozenset()
        known = recall(places.memory) if places.memory else ()
        self._engines = Engines(self._heard, places.root, known)
        self._folders: Folders | None = None
        self._found: tuple[Workload, ...] = ()
        self._problems: tuple[str, ...] = ()
        self._failure = ""
        self._noted = threading.Condition()
        self._changes = _Changes()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="workloads", daemon=True)

    # What is known

    def workloads(self) -> tuple[Workload, ...]:
        """Return the workloads, by cgroup; ask again for containers that no engine knows yet."""
        known = {container.id for container in self._engines.containers()}
        if self._containers - known:
            self._engines.ask(self._containers)
        return self._found

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong in files and with engines, a message each."""
        return self._problems

    # Looking

    def look(self) -> tuple[Workload, ...]:
        """Look everywhere, and wait a moment for engines that have containers here."""
        self._refresh_all()
        self._engines.wait()
        self._identify()
        return self._found

    def start(self) -> None:
        """Begin to watch, and look once.

        Raises KernelError where inotify refuses; what there is now is known even then.
        """
        try:
            self._folders = Folders(self._note)
            self._folders.start()
        finally:
            self.look()
            self._thread.start()

    def stop(self) -> None:
        """End all threads."""
        with self._noted:
            self._stopping = True
            self._noted.notify()
        self._engines.stop()
        if self._folders:
            self._folders.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _note(self, folder: Path | None) -> None:
        with self._noted:
            if folder is None:
                self._changes.everything = True
            else:
                self._changes.folders.add(folder)
            self._noted.notify()

    def _heard(self) -> None:
        with self._noted:
            self._changes.engines = True
            self._noted.notify()

    def _run(self) -> None:
        while True:
            with self._noted:
                self._noted.wait_for(lambda: self._stopping or self._changes)
                changes, self._changes = self._changes, _Changes()
            if self._stopping:
                return
            before = self._found, self._problems
            self._take(changes)
            if (self._found, self._problems) != before:
                self._changed()

    def _take(self, changes: _Changes) -> None:
        if changes.everything:
            self._refresh_all()
        else:
            self._refresh(changes.folders)
        self._identify()

    # The parts

    def _refresh_all(self) -> None:
        self._cgroups.clear()
        self._add(".", False)
        self._read_files()
        self._read_units()
        self._ask_engines()

    def _refresh(self, folders: Iterable[Path]) -> None:
        mount = self._places.cgroups.root()
        others = set()
        for folder in folders:
            if mount and folder.is_relative_to(mount):
                self._refresh_cgroup(str(folder.relative_to(mount)), folder)
            else:
                others.add(folder)
        if others & {self._places.files, self._places.files.parent}:
            self._read_files()
        if others - {self._places.files, self._places.files.parent}:
            self._read_units()
        self._ask_engines()

    def _refresh_cgroup(self, path: str, folder: Path) -> None:
        """Compare a cgroup's children with those that are known.

        Where it has another owner now (delegation comes after the making), all below is new.
        """
        parent = self._cgroups.get(path)
        if parent is None:
            return
        if _owner(folder) not in (None, parent.owner):
            self._drop(path)
            self._add(path, parent.delegated)
            return
        there = _children(folder)
        known = {
            other.rpartition("/")[2]: cgroup
            for other, cgroup in self._cgroups.items()
            if other != "." and (other.rpartition("/")[0] or ".") == path
        }
        for name, cgroup in known.items():
            if there.get(name) != cgroup.id:
                self._drop(cgroup.path)
        for name in there:
            if join(path, name) not in self._cgroups:
                self._add(join(path, name), parent.delegated or parent.owner != 0)

    def _drop(self, path: str) -> None:
        mount = self._places.cgroups.root()
        for other in [other for other in self._cgroups if is_below(other, path)]:
            del self._cgroups[other]
            self._forget(other)
            if self._folders and mount:
                self._folders.leave(mount / other)

    def _add(self, path: str, delegated: bool) -> None:
        mount = self._places.cgroups.root()
        if mount is None:
            return
        for cgroup in walk(mount, path, delegated, lambda entered: self._cover(mount / entered)):
            self._cgroups[cgroup.path] = cgroup
            self._forget(cgroup.path)

    def _forget(self, path: str) -> None:
        """Forget what a unit's files said: when it starts again they may be others."""
        if unit := unit_at(path):
            self._labels.pop(unit.name, None)

    def _cover(self, folder: Path, contents: bool = False) -> None:
        if self._folders is None:
            return
        try:
            if contents:
                self._folders.watch(folder, CONTENTS)
            else:
                self._folders.watch(folder)
        except KernelError as error:
            self._failure = str(error)

    def _read_files(self) -> None:
        self._cover(self._places.files.parent)
        self._cover(self._places.files, contents=True)
        self._documents = self._static.read()

    def _read_units(self) -> None:
        for place in WATCHED_UNITS:
            folder = self._places.root / place
            self._cover(folder, contents=True)
            for drop_ins in sorted(folder.glob("*.d")):
                self._cover(drop_ins, contents=True)
        self._labels.clear()

    def _labels_of(self, unit: str) -> UnitLabels:
        if unit not in self._labels:
            self._labels[unit] = unit_labels(unit, self._places.search_path)
        return self._labels[unit]

    def _ask_engines(self) -> None:
        running = frozenset(container_places(self._cgroups.values()))
        if running != self._containers:
            self._containers = running
            self._engines.ask(running)

    def _identify(self) -> None:
        containers = [c for c in self._engines.containers() if c.id in self._containers]
        if self._places.memory and self._folders:
            remember(self._places.memory, containers)
        self._found = identify(self._cgroups, self._labels_of, containers, self._documents)
        self._problems = (
            *([self._failure] if self._failure else ()),
            *self._static.problems,
            *(problem for _, said in sorted(self._labels.items()) for problem in said.problems),
            *self._engines.problems(),
        )


def _owner(folder: Path) -> int | None:
    try:
        return folder.stat().st_uid
    except OSError:
        return None


def _children(folder: Path) -> dict[str, int]:
    """Return the cgroups in a folder with their ids."""
    try:
        return {entry.name: entry.inode() for entry in os.scandir(folder) if entry.is_dir()}
    except OSError:
        return {}
