"""The daemon's own costs: a pass that changes nothing, parsing, a push, idleness."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar

import numpy as np
import yaml

from fos1d.kernel.port import RealKernel
from fos1d.kinds.reading import Reader
from fos1d.model.snapshot import Snapshot
from tests import lab
from tests.applied import HEAD, Applied, program, snapshot
from tests.bench.clock import WAN, Place, cpu_s, memory_mb, place, process_of, until_quiet
from tests.bench.networks import mixed4
from tests.bench.ours import EVERYTHING, LIST
from tests.bench.results import Bar, Row, Table, middle, spread, tick

Files = Mapping[str, str | bytes]
PAIRS = 20
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Timed:
    """How long something took by the clock, and how much of it this thread was computing: what
    else runs on the machine lengthens only the first."""

    wall_s: float
    cpu_s: float


def stopwatch(act: Callable[[], Result]) -> tuple[Timed, Result]:
    """Do something and say how long it took."""
    wall, cpu = time.perf_counter(), time.thread_time()
    result = act()
    return Timed(time.perf_counter() - wall, time.thread_time() - cpu), result


# A pass that changes nothing


def passes(quick: bool) -> Table:
    """A pass over many resources in force: the first, one that changes nothing, one that changes
    one of them."""
    count, rounds = (200, 5) if quick else (1_000, 7)
    with lab.bpf_folder() as pins, lab.namespaces("router") as (here,), here.entered():
        for pair in range(PAIRS):
            here.ip("link", "add", "name", f"a{pair}", "type", "veth", "peer", "name", f"b{pair}")
        kernel = RealKernel(pins / "fos1")
        try:
            made = Applied(kernel)
            first = [_timed_pass(made, resources(count))]
            nothing = [_timed_pass(made, resources(count)) for _ in range(rounds)]
            one = [_timed_pass(made, resources(count, 1 + turn % 2)) for turn in range(rounds)]
        finally:
            kernel.close()
    rows = [("the first", first), ("nothing changed", nothing), ("one changed", one)]
    return Table(
        "passes",
        f"A pass over {count:,} resources ({2 * PAIRS} XDP programs, the rest maps)",
        "ms of CPU",
        "the first",
        tuple(_pass_row(what, times, first[0].cpu_s) for what, times in rows),
    )


def _pass_row(what: str, times: list[Timed], first_s: float) -> Row:
    cpu = [1000 * timed.cpu_s for timed in times]
    wall = [1000 * timed.wall_s for timed in times]
    more: dict[str, float | str] = {"rounds": spread(cpu), "by the clock": middle(wall)}
    return Row(what, "", middle(cpu), middle(cpu) / 1000 / first_s, more)


def resources(count: int, version: int = 0) -> Files:
    """Return as many manifests; `version` is what one of the maps holds."""
    names = [f"{side}{pair}" for pair in range(PAIRS) for side in "ab"]
    files: dict[str, str | bytes] = {
        f"{name}.yaml": program(name, name, "{blacklist: {enabled: true, ips: [192.0.2.1]}}")
        for name in names
    }
    for number in range(count - len(files)):
        files[f"m{number}.yaml"] = map_manifest(number, version if number == 0 else 0)
    return files


def map_manifest(number: int, value: int = 0) -> str:
    """Return a map with an entry."""
    return (
        f"{HEAD}kind: EBPFMap\nmetadata: {{name: m{number}}}\nspec:\n  type: hash\n  keySize: 4\n"
        f"  valueSize: 4\n  maxEntries: 8\n  initData:\n  - {{key: {number}, value: {value}}}\n"
    )


def _timed_pass(made: Applied, files: Files) -> Timed:
    timed, report = stopwatch(lambda: made.apply(files))
    assert not report.facts.refusals, report.facts.refusals
    return timed


# Parsing


def parsing(quick: bool) -> Table:
    """Manifests from text to checked resources, beside a bare YAML parser on the same text."""
    count, rounds = (1_000, 3) if quick else (10_000, 3)
    files = {f"{number}.yaml": parsed_manifest(number) for number in range(count)}
    bare: list[float] = []
    whole: list[float] = []
    again: list[float] = []
    for _ in range(rounds):
        bare.append(_seconds(lambda: [yaml.load(t, yaml.CSafeLoader) for t in files.values()]))
        read = partial(_read, Reader(), snapshot(files))
        whole.append(_seconds(read))
        again.append(_seconds(read))
    rows = (
        _rate("libyaml alone", count, bare, bare),
        _rate("fos1d, every file new", count, whole, bare),
        _rate("fos1d, no file new", count, again, bare),
    )
    return Table(
        "parsing", f"Reading {count:,} manifests", "manifests a CPU second", "libyaml alone", rows
    )


def parsed_manifest(number: int) -> str:
    """Return a program or a map, in turn."""
    if number % 2:
        return map_manifest(number)
    settings = f"{{rateLimiting: {{enabled: true, packetsPerSecond: {1000 + number}}}}}"
    return program(f"p{number}", f"eth{number}", settings, priority=10)


def _read(reader: Reader, seen: Snapshot) -> None:
    _, findings = reader.read(seen, {})
    assert not findings, findings[:3]


def _seconds(act: Callable[[], object]) -> float:
    return stopwatch(act)[0].cpu_s


def _rate(what: str, count: int, seconds: list[float], bare: list[float]) -> Row:
    rates = [count / taken for taken in seconds]
    return Row(what, "", middle(rates), middle(seconds) / middle(bare), {"rounds": spread(rates)})


# From `git push` to the kernel


@dataclass(frozen=True, slots=True)
class Clone:
    """An operator's clone; `target` is where a push goes."""

    folder: Path
    environment: Mapping[str, str]

    def git(self, *words: str) -> None:
        """Run git in it."""
        subprocess.run(
            ["git", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=True,
        )

    def commit(self, files: Files) -> None:
        """Write the files and commit them."""
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (self.folder / name).write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Change")

    def start_push(self, remote: str) -> subprocess.Popen[bytes]:
        """Begin to push."""
        return subprocess.Popen(
            ["git", "push", "-q", remote, "main"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def pushes(quick: bool) -> Table:
    """A push of one changed address: until it returns, and until the kernel has it."""
    rounds = 10 if quick else 50
    plain: list[float] = []
    returned: list[float] = []
    enforced: list[float] = []
    with place() as here:
        clone = served(here)
        for turn in range(rounds):
            tick()
            clone.commit(blocking(turn))
            timed, _ = stopwatch(lambda: clone.start_push("plain").wait(60))
            plain.append(1000 * timed.wall_s)
            push = Push(clone)
            enforced.append(1000 * here.seconds_until_another(push.begin))
            returned.append(1000 * push.seconds())
    rows = [
        ("git push to a bare repository", plain),
        ("git push to the router, until it returns", returned),
        ("git push to the router, until enforced", enforced),
    ]
    yardstick = rows[0][0]
    return Table(
        "pushes",
        f"{rounds} pushes of one changed address",
        "ms",
        yardstick,
        tuple(
            Row(what, "", middle(ms), middle(ms) / middle(plain), _percentiles(ms))
            for what, ms in rows
        ),
        (Bar("seconds from push to enforced, 99th percentile", percentile(enforced, 99) / 1e3, 1),),
    )


def served(here: Place) -> Clone:
    """Make a repository that the router's daemon follows, a bare one, and a clone of both."""
    made = here.router
    bare, plain = made.folder / "policy.git", made.folder / "plain.git"
    made.write_settings(f'type = "git"\npath = "{bare}"')
    who = {f"GIT_{role}_{what}": "operator" for role in ("AUTHOR", "COMMITTER") for what in _WHO}
    own = {"HOME": str(made.folder), "GIT_CONFIG_NOSYSTEM": "1"}
    own["FOS1_SOCKET"] = f"{made.folder}/run/api.sock"
    clone = Clone(made.folder / "clone", {**os.environ, **own, **who})
    made.ctl("repo", "init", str(bare), "--config", str(made.config))
    lab.command("git", "init", "-q", "--bare", str(plain))
    lab.command("git", "init", "-q", "-b", "main", str(clone.folder))
    clone.git("remote", "add", "router", str(bare))
    clone.git("remote", "add", "plain", str(plain))
    clone.commit(blocking(1_000))
    assert clone.start_push("router").wait(60) == 0
    made.start()
    return clone


_WHO = ("NAME", "EMAIL")


def blocking(turn: int) -> Files:
    """Return the manifest of a program that drops one source."""
    ips = f"198.51.{turn // 250}.{turn % 250}"
    return {"edge.yaml": program("edge", WAN, f'{{blacklist: {{enabled: true, ips: ["{ips}"]}}}}')}


@dataclass(slots=True)
class Push:
    """A push to the router, timed by a thread: the kernel may be ready before it returns."""

    clone: Clone
    thread: Thread | None = None
    took_s: float = 0.0

    def begin(self) -> None:
        """Begin to push."""
        process = self.clone.start_push("router")
        self.thread = Thread(target=self._wait, args=(process, time.monotonic()))
        self.thread.start()

    def _wait(self, process: subprocess.Popen[bytes], began: float) -> None:
        assert process.wait(60) == 0
        self.took_s = time.monotonic() - began

    def seconds(self) -> float:
        """Wait for the end; return how long the push took to return."""
        assert self.thread is not None
        self.thread.join()
        return self.took_s


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile."""
    return float(np.percentile(values, percent))


def _percentiles(values: list[float]) -> dict[str, float | str]:
    return {"p95": percentile(values, 95), "p99": percentile(values, 99), "rounds": spread(values)}


# Idleness


def idle(quick: bool) -> Table:
    """What a daemon costs that has nothing to do, resyncs of once a minute among it."""
    seconds = 5.0 if quick else 65.0
    with ExitStack() as stack:
        processes = {what: _started(files, stack) for what, files in _policies()}
        before = {what: cpu_s(process) for what, process in processes.items()}
        time.sleep(seconds)
        after = {what: cpu_s(process) for what, process in processes.items()}
        memory = {what: memory_mb(process) for what, process in processes.items()}
    rows: list[Row] = []
    for what in processes:
        share = 100 * (after[what] - before[what]) / seconds
        now_mb, most_mb = memory[what]
        rows.append(Row(what, "% of a core", share))
        rows.append(Row(what, "MB", now_mb, None, {"at most": most_mb}))
    limits = {"% of a core": 0.5, "MB": 80.0}
    bars = [Bar(f"{row.what}, {row.n}", row.value, limits[row.n]) for row in rows[:4]]
    title = f"Daemons at rest for {seconds:.0f} s"
    return Table("idle", title, "figure", "", tuple(rows), tuple(bars))


def _policies() -> Iterator[tuple[str, Files]]:
    listed = mixed4(10_000, np.random.default_rng(3)).netset()
    yield "one program", blocking(1)
    yield (
        "every feature, a list of 10k",
        {"edge.yaml": program("edge", WAN, f"{{{EVERYTHING}}}"), LIST: listed},
    )
    yield "1,000 maps", {f"m{n}.yaml": map_manifest(n) for n in range(1_000)}


def _started(files: Files, stack: ExitStack) -> int:
    """Start a daemon that enforces the files; return its process id."""
    here = stack.enter_context(place('[reconcile]\nresync = "60s"'))
    here.router.start()
    for name, content in files.items():
        here.router.write(name, content)
    process = process_of(here.router)
    until_quiet(process)
    return process
