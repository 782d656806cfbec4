"""What two hosts notice of the translator between them: how much TCP carries, and how long a
request takes there and back.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fos1d.kernel.port import RealKernel
from fos1d.model.facts import FastPath
from tests import lab
from tests.applied import Applied
from tests.bench.nat import manifest
from tests.bench.results import Row, Table, middle, spread, tick
from tests.running import ROOT

INSIDE, GATE, OUTSIDE, FAR = "10.0.0.2", "10.0.0.1", "198.51.100.1", "198.51.100.2"
WAN, PORT, STREAM_PORT = "wan0", 7000, 5201
WARM_S = 0.3
MASQUERADE = manifest(f"{{type: masquerade, interface: {WAN}}}")
NFT = (
    "table ip bench {\nchain nat {\n"
    f"type nat hook postrouting priority srcnat;\noifname {WAN} masquerade\n}}\n}}"
)


@dataclass
class Path:
    """Two hosts and the router between them, with what was measured there."""

    what: str
    client: lab.Namespace
    router: lab.Namespace
    server: lab.Namespace
    stack: ExitStack
    bits: list[float] = field(default_factory=list)
    half_ns: list[float] = field(default_factory=list)
    late_ns: list[float] = field(default_factory=list)


def untranslated(path: Path) -> None:
    """Let the server know the way back."""
    path.server.ip("route", "add", f"{INSIDE}/32", "via", OUTSIDE)


def by_nftables(path: Path) -> None:
    """Translate by netfilter."""
    path.router.run("nft", NFT)


def by_daemon(path: Path, fast_path: FastPath) -> None:
    """Translate by our programs."""
    folder = path.stack.enter_context(lab.bpf_folder())
    with path.router.entered():
        kernel = RealKernel(folder / "fos1", fast_path=fast_path)
        path.stack.callback(kernel.close)
        Applied(kernel).ready(MASQUERADE)


SETUPS: dict[str, Callable[[Path], None]] = {
    "no translation": untranslated,
    "nftables masquerade": by_nftables,
    "fos1d masquerade": partial(by_daemon, fast_path=FastPath.OFF),
    "fos1d masquerade, TC fast path": partial(by_daemon, fast_path=FastPath.TC),
    "fos1d masquerade, XDP fast path": partial(by_daemon, fast_path=FastPath.XDP),
}


@contextmanager
def paths() -> Iterator[list[Path]]:
    """Make one for each of those that are compared."""
    with ExitStack() as stack:
        made = [_path(what, stack) for what in SETUPS]
        for path in made:
            SETUPS[path.what](path)
        yield made


def _path(what: str, stack: ExitStack) -> Path:
    client, router, server = stack.enter_context(lab.namespaces("in", "rt", "out"))
    lab.veth(client, "eth0", router, "lan0")
    lab.veth(router, WAN, server, "eth0")
    for host, interface, address in (
        (client, "eth0", INSIDE),
        (router, "lan0", GATE),
        (router, WAN, OUTSIDE),
        (server, "eth0", FAR),
    ):
        lab.address(host, interface, f"{address}/24")
    client.ip("route", "add", "default", "via", GATE)
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    # A network card polls; a veth does where it has GRO, and only then takes what XDP sends on.
    for host, interface in ((router, "lan0"), (router, WAN), (client, "eth0"), (server, "eth0")):
        host.run("ethtool", "-K", interface, "gro", "on")
    return Path(what, client, router, server, stack)


def goodput(path: Path, seconds: float) -> float:
    """Return the payload bits a second of one TCP connection outwards."""
    program, place = (sys.executable, "-m", "tests.stream"), ("tcp", FAR, str(STREAM_PORT))
    receiving = (*program, "receive", *place, str(WARM_S), str(seconds))
    sending = (*program, "send", *place, str(seconds + 2 * WARM_S), "0", "1", "")
    with path.server.popen(*receiving, stdout=subprocess.PIPE, cwd=ROOT) as receiver:
        assert receiver.stdout
        receiver.stdout.readline()
        with path.client.popen(*sending, cwd=ROOT) as sender:
            bytes_per_s = float(receiver.stdout.readline())
            sender.wait(timeout=30)
    return bytes_per_s * 8


def round_trips(path: Path, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the ns of requests and answers over UDP, both hosts in one thread: what takes time is
    the way, and no waking up."""
    taken = np.empty(count)
    with path.server.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with path.client.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.bind((FAR, PORT))
        client.connect((FAR, PORT))
        for one in (server, client):
            one.settimeout(2)
        for number in range(count):
            began = time.perf_counter_ns()
            client.send(b"request")
            _, peer = server.recvfrom(64)
            server.sendto(b"response", peer)
            client.recv(64)
            taken[number] = time.perf_counter_ns() - began
    return taken


def nat_ends(quick: bool) -> Table:
    """Goodput and latency, all paths in turn, round by round."""
    rounds, seconds, count = (2, 1.0, 2000) if quick else (7, 2.0, 10_000)
    with paths() as made:
        for _ in range(rounds):
            for path in made:
                tick()
                round_trips(path, count // 4)
                taken = round_trips(path, count)
                path.half_ns.append(float(np.quantile(taken, 0.5)))
                path.late_ns.append(float(np.quantile(taken, 0.99)))
                path.bits.append(goodput(path, seconds))
    return Table(
        "nat_ends",
        "UDP requests and answers, and TCP, through the translator",
        "p50 us",
        "nftables",
        tuple(_rows(made)),
        notes=("veth pairs with offload: TCP goes in segments of up to 64 KB",),
    )


def _rows(made: Sequence[Path]) -> Iterator[Row]:
    yardstick = middle(next(path for path in made if path.what.startswith("nft")).half_ns)
    for path in made:
        more: dict[str, float | str] = {
            "rounds": spread([ns / 1e3 for ns in path.half_ns]),
            "p99 us": middle(path.late_ns) / 1e3,
            "TCP Gbit/s": middle(path.bits) / 1e9,
        }
        half = middle(path.half_ns)
        yield Row(path.what, "", half / 1e3, half / yardstick, more)
