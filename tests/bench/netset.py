"""A list of a million lines: from a file that the daemon never saw to packets being dropped."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import numpy as np

from tests.applied import program
from tests.bench.clock import (
    WAN,
    Place,
    cpu_s,
    memory_mb,
    place,
    process_of,
    staged,
)
from tests.bench.networks import Networks, mixed4, prefixes4, prefixes6
from tests.bench.objects import compiled_c
from tests.bench.results import Bar, Row, Table, middle, spread, tick
from tests.lab import command

LIST = "listed.netset"
# After a change, the daemon writes down for its next start what is in force.
REST_S = 2.0
ONE_MORE = {4: b"198.51.100.77\n", 6: b"2001:db8:77::/48\n"}
EMPTY = program("edge", WAN, "{}")
LISTED = program("edge", WAN, f"{{blacklist: {{enabled: true, files: [{LIST}]}}}}").encode()


@dataclass
class Case:
    """A list, the map type of the yardstick, and what was measured, in ms and MB."""

    what: str
    networks: Networks
    yardstick: str
    batch_ms: list[float] = field(default_factory=list)
    batch_cpu_ms: list[float] = field(default_factory=list)
    cold_cpu_ms: list[float] = field(default_factory=list)
    more_cpu_ms: list[float] = field(default_factory=list)
    cold_ms: list[float] = field(default_factory=list)
    more_ms: list[float] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    after_mb: list[float] = field(default_factory=list)
    most_mb: list[float] = field(default_factory=list)


def netset(quick: bool) -> Table:
    """Cold load and one line more, by a real daemon, beside a C program with the same keys."""
    random = np.random.default_rng(9)
    size, rounds = (100_000, 2) if quick else (1_000_000, 5)
    cases = [
        Case("IPv4 hosts", prefixes4(size, 32, random), "hash"),
        Case("IPv4 mixed list", mixed4(size, random), "lpm"),
        Case("IPv6 /48", prefixes6(size, 48, random), ""),
    ]
    for _ in range(rounds):
        for case in cases:
            measure(case)
    return Table(
        "netset",
        f"A list of {size:,} lines, cold",
        "ms",
        "C, batches",
        tuple(row for case in cases for row in _rows(case)),
        tuple(bar for case in cases for bar in _bars(case)),
        (
            "cold: from the file's rename into the folder until packets of a listed source do not "
            "pass; the daemon runs, but saw neither file nor list before",
            "one line more or less: the same of that line's source, of a daemon at rest",
            "C, batches: parse, create the map, insert by batches of 65,536; into a hash or an "
            "LPM trie; it reads no IPv6",
        ),
    )


def measure(case: Case) -> None:
    """Measure one round of a case: yardstick, cold, and two lines more one after the other."""
    tick()
    content = case.networks.netset()
    if case.yardstick:
        wall_ms, cpu_ms = _batch_ms(case.yardstick, content)
        case.batch_ms.append(wall_ms)
        case.batch_cpu_ms.append(cpu_ms)
    with place() as here:
        made = here.router
        made.write("edge.yaml", EMPTY)
        made.start()
        process = process_of(made)
        case.idle_mb.append(memory_mb(process)[0])
        changes = [staged(made.policy / LIST, content), staged(made.policy / "edge.yaml", LISTED)]
        took_ms, used_ms = _took(here, changes, _source_in(content), False)
        case.cold_ms.append(took_ms)
        case.cold_cpu_ms.append(used_ms)
        line = ONE_MORE[case.networks.family]
        for version, passes in ((content + line, False), (content, True)):
            time.sleep(REST_S)
            change = staged(made.policy / LIST, version)
            took_ms, used_ms = _took(here, [change], _source_in(line), passes)
            case.more_ms.append(took_ms)
            case.more_cpu_ms.append(used_ms)
        after, most = memory_mb(process)
        case.after_mb.append(after)
        case.most_mb.append(most)


def _source_in(lines: bytes) -> str:
    """Return an address of the first network."""
    return str(ip_network(lines.partition(b"\n")[0].decode()).network_address)


def _took(
    here: Place, changes: Sequence[Callable[[], object]], source: str, passes: bool
) -> tuple[float, float]:
    """Return the ms until a source's packets pass, or do not, and the ms that the daemon
    computed."""
    process = process_of(here.router)
    before = cpu_s(process)
    wall_ms = 1000 * here.seconds_until_judged(
        lambda: [change() for change in changes], source, passes
    )
    return wall_ms, 1000 * (cpu_s(process) - before)


def _batch_ms(kind: str, content: bytes) -> tuple[float, float]:
    """Return what the yardstick took by the clock and how much it computed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.NamedTemporaryFile(suffix=".netset") as file:
        file.write(content)
        file.flush()
        said = command(str(compiled_c("netset_batch")), kind, str(Path(file.name)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sum(map(float, said.split()[1:])), 1000 * cpu_s


def _rows(case: Case) -> list[Row]:
    def row(what: str, values: Sequence[float], cpu: Sequence[float]) -> Row:
        ratio = middle(values) / middle(case.batch_ms) if case.batch_ms else None
        more: dict[str, float | str] = {"rounds": spread(values), "CPU ms": middle(cpu)}
        return Row(f"{case.what}, {what}", "", middle(values), ratio, more)

    mb = {name: middle(values) for name, values in _memory(case).items()}
    cold = row("cold", case.cold_ms, case.cold_cpu_ms)
    cold = Row(cold.what, cold.n, cold.value, cold.ratio, {**cold.more, **mb})
    one_more = row("one line more or less", case.more_ms, case.more_cpu_ms)
    if not case.batch_ms:
        return [cold, one_more]
    return [row(f"C, {case.yardstick}", case.batch_ms, case.batch_cpu_ms), cold, one_more]


def _memory(case: Case) -> dict[str, list[float]]:
    return {"MB before": case.idle_mb, "MB after": case.after_mb, "MB at most": case.most_mb}


def _bars(case: Case) -> list[Bar]:
    one_more = middle(case.more_ms) / middle(case.cold_ms)
    bars = [Bar(f"{case.what}: one line beside cold", one_more, 0.1)]
    if case.batch_ms:
        beside = middle(case.cold_ms) / middle(case.batch_ms)
        bars.insert(0, Bar(f"{case.what}: cold beside C by batches", beside, 2.0))
    return bars
