"""Whether a workload gets the bandwidth that is declared for it: no less and no more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import lab
from tests.applied import HEAD
from tests.bench.results import Bar, Row, Table, middle, spread, tick
from tests.limited import Limiter, limiter

WORKLOAD = "w"
INSIDE, OUTSIDE = "10.77.0.1", "10.77.0.2"
PORT = 5201
# The rates, each with the size of packets: iperf3 cannot send a Gbit/s of small datagrams here.
MTU_BYTES = {10: 1_500, 100: 1_500, 1_000: 9_000}
# TCP with timestamps; UDP in datagrams of somewhat less than a packet.
TCP_HEADERS_BYTES, UDP_HEADERS_BYTES, SPARE_BYTES = 52, 28, 100
# UDP is sent faster than the limit by this much.
TOO_FAST = 1.2
WARM_S = 2
# A receiver that waits for the CPU loses datagrams that the limit let by: the default buffer holds
# what 1 Gbit/s brings in 2 ms at most.
PROMPTLY = ("chrt", "--fifo", "10")
BUFFER_BYTES = 4 << 20
MOST_BUFFER = tuple(Path("/proc/sys/net/core") / name for name in ("rmem_max", "wmem_max"))
OFF_PERCENT = 5.0


@dataclass
class Case:
    """A declared rate, a protocol and a direction; what was got and what was sent, as shares of
    the rate; and the share of what came that found no room in the receiver's buffer."""

    mbit: int
    kind: str
    way: str
    shares: list[float] = field(default_factory=list)
    offered: list[float] = field(default_factory=list)
    no_room: list[float] = field(default_factory=list)

    @property
    def what(self) -> str:
        """What it is called."""
        return f"{self.kind.upper()} {'sent' if self.way == 'egress' else 'received'}"

    @property
    def datagram_bytes(self) -> int:
        """What a UDP packet carries."""
        return MTU_BYTES[self.mbit] - SPARE_BYTES

    @property
    def payload(self) -> float:
        """The part of a packet that is payload."""
        if self.kind == "udp":
            return self.datagram_bytes / (self.datagram_bytes + UDP_HEADERS_BYTES)
        return 1 - TCP_HEADERS_BYTES / MTU_BYTES[self.mbit]

    @property
    def share(self) -> float:
        """The figure: the median of rounds."""
        return middle(self.shares)


@dataclass(frozen=True, slots=True)
class House:
    """A host whose workload is limited, and another host."""

    limiter: Limiter
    inside: lab.Namespace
    outside: lab.Namespace


def bandwidth(quick: bool) -> Table:
    """Declared rates, and what iperf3 gets over a veth pair."""
    cases = [
        Case(mbit, kind, way)
        for mbit in MTU_BYTES
        for kind in ("tcp", "udp")
        for way in ("egress", "ingress")
    ]
    rounds, seconds = (1, 3) if quick else (3, 8)
    for mbit in MTU_BYTES:
        tick(f" {mbit} ")
        with _house(mbit) as house:
            for case in [case for case in cases if case.mbit == mbit] * rounds:
                tick()
                _measure(house, case, seconds)
    return Table(
        "bandwidth",
        "Bandwidth of a workload beside what is declared for it",
        "Mbit/s",
        "declared",
        tuple(_row(case) for case in cases),
        tuple(_bar(case) for case in cases),
        (
            f"iperf3: one connection, or datagrams at {TOO_FAST:g} times the rate, by what the "
            "receiver got, headers added; `offered` is what was sent of datagrams, `% no room` "
            "what the limit let by and a full socket dropped, in the worst round",
            "10 and 100 Mbit/s in packets of 1,500 bytes at most, 1,000 Mbit/s in 9,000",
        ),
    )


@contextmanager
def _house(mbit: int) -> Iterator[House]:
    with (
        lab.bpf_folder() as pins,
        lab.cgroup_folder() as cgroup,
        lab.namespaces("in", "out") as (inside, outside),
        limiter(pins / "fos1", cgroup) as made,
    ):
        lab.veth(inside, "eth0", outside, "eth0")
        for host, address in ((inside, INSIDE), (outside, OUTSIDE)):
            host.ip("link", "set", "dev", "eth0", "mtu", str(MTU_BYTES[mbit]))
            lab.address(host, "eth0", f"{address}/24")
        made.apply([made.workload(WORKLOAD)], _manifest(mbit))
        yield House(made, inside, outside)


def _manifest(mbit: int) -> str:
    rates = f"egressBitsPerSecond: {mbit}Mbit, ingressBitsPerSecond: {mbit}Mbit"
    return (
        f"{HEAD}kind: EBPFContainerPolicy\nmetadata: {{name: bench}}\nspec:\n"
        f"  selector: {{podSelector: {{}}}}\n  resourceLimits: {{bandwidthLimits: {{{rates}}}}}\n"
    )


def _measure(house: House, case: Case, seconds: int) -> None:
    """Send for some seconds, and note what the receiver got of the declared rate."""
    workload, other = (WORKLOAD, house.inside, INSIDE), (".", house.outside, OUTSIDE)
    sender, receiver = (workload, other) if case.way == "egress" else (other, workload)
    words = _datagrams(case) if case.kind == "udp" else ()
    where, namespace, address = receiver
    before = _arrivals(namespace)
    with _listening(house, where, namespace, address):
        client = ("iperf3", "-c", address, "-p", str(PORT), "-J", "-t", str(seconds))
        said = house.limiter.run(*sender[:2], *client, "-O", str(WARM_S), *words)
    sent, received = (each / case.payload / (case.mbit * 1e6) for each in _bits_per_s(said))
    case.shares.append(received)
    case.offered.append(sent)
    case.no_room.append(_arrivals(namespace).no_room_since(before))


def _datagrams(case: Case) -> tuple[str, ...]:
    """Return the words for datagrams, with the largest buffer that iperf3 gets: it gives up over
    one that the kernel, which doubles what it is asked for, makes smaller."""
    most = min(2 * int(path.read_text()) for path in MOST_BUFFER)
    buffer = str(min(BUFFER_BYTES, most))
    size = str(case.datagram_bytes)
    return ("-u", "-l", size, "-b", f"{case.mbit * TOO_FAST:g}M", "-w", buffer)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Datagrams that were read, and that found their socket full, ever in a network namespace."""

    read: int
    no_room: int

    def no_room_since(self, before: Arrivals) -> float:
        """Return the share that found no room."""
        lost = self.no_room - before.no_room
        return lost / max(lost + self.read - before.read, 1)


def _arrivals(namespace: lab.Namespace) -> Arrivals:
    lines = namespace.run("cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    counts = dict(zip(names[1:], map(int, values[1:]), strict=True))
    return Arrivals(counts["InDatagrams"], counts["RcvbufErrors"])


@contextmanager
def _listening(
    house: House, where: str, namespace: lab.Namespace, address: str
) -> Iterator[subprocess.Popen[bytes]]:
    words = (*PROMPTLY, "iperf3", "-s", "-1", "-B", address, "-p", str(PORT), "--forceflush")
    with house.limiter.popen(where, namespace, *words) as server:
        try:
            _wait_for_listener(server)
            yield server
        finally:
            server.kill()


def _wait_for_listener(server: subprocess.Popen[bytes]) -> None:
    assert server.stdout is not None
    for line in server.stdout:
        if b"listening" in line:
            return
    raise RuntimeError("iperf3 does not listen")


def _bits_per_s(said: str) -> tuple[float, float]:
    """Return the payload that was sent and received, in bits per second."""
    found: dict[str, Any] = json.loads(said)
    if "error" in found:
        raise RuntimeError(f"iperf3: {found['error']}")
    end = found["end"]
    sent, received = end["sum_sent"], end["sum_received"]
    return float(sent["bits_per_second"]), float(received["bits_per_second"])


def _row(case: Case) -> Row:
    mbit = [share * case.mbit for share in case.shares]
    more: dict[str, float | str] = {"rounds": spread(mbit)}
    if case.kind == "udp":
        more["offered"] = case.mbit * middle(case.offered)
        more["% no room"] = 100 * max(case.no_room)
    return Row(case.what, f"{case.mbit:,} Mbit/s", middle(mbit), case.share, more)


def _bar(case: Case) -> Bar:
    off_percent = 100 * abs(case.share - 1)
    return Bar(f"{case.what}, {case.mbit:,} Mbit/s: % off", off_percent, OFF_PERCENT)
