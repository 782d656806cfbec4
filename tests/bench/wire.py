"""The lab: a sender, routers behind it, and a meter of what a router spends on a packet.

The sender's frames come from BPF_PROG_TEST_RUN; each gets the next source of a table. They go into
a veth pair whose other end polls them (NAPI) on the same CPU, 60 at a time, so that a poll is
complete within its budget. The figure is the median over all polls of their time a packet.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fos1d.kernel import attach, bpf, contents
from fos1d.kernel.bpf import Fd
from fos1d.model.objects import Mode
from tests import frames, lab
from tests.bench.networks import Networks
from tests.bench.objects import (
    Loaded,
    loaded,
    program_by_id,
    read_elements,
    test_run,
    write_elements,
)

INTERFACE = "bench-in"
OUT = "bench-out"
MAC = "02:00:00:00:00:02"
MAC_BYTES = bytes.fromhex(MAC.replace(":", ""))
HOPS = 64
ROUTER = {4: "198.51.100.1", 6: "2001:db8:1::1"}
NET = {4: "198.51.100.1/24", 6: "2001:db8:1::1/64"}
CPU = max(os.sched_getaffinity(0))
OTHER_CPU = min(os.sched_getaffinity(0))
PAYLOAD = bytes(18)
SAMPLES = 65536


@dataclass(frozen=True, slots=True)
class Reading:
    """What a volley cost the router, in ns a packet: by the median poll, and by the mean of all.
    `delivered` packets got past everything to the router itself."""

    router_ns: float
    mean_ns: float
    packets: int
    delivered: int


@dataclass(frozen=True)
class Meter:
    """The times of polls on interfaces called `bench-in`."""

    object: Loaded

    def clear(self) -> None:
        """Begin anew."""
        totals = self.object.map("totals")
        contents.write_raw_one(totals, bpf.map_info(totals), bytes(4), bytes(24))

    def packets(self) -> int:
        """Return how many packets were polled."""
        return self._totals()[1]

    def read(self, delivered: int) -> Reading:
        """Return what was measured since the beginning."""
        ns, packets, polls = self._totals()
        rows = np.frombuffer(read_elements(self.object.map("samples")), np.uint32).reshape(-1, 2)
        rows = rows[: min(polls, SAMPLES)]
        each = float(np.median(rows[:, 0] / rows[:, 1])) if len(rows) else 0.0
        return Reading(each, ns / max(packets, 1), packets, delivered)

    def _totals(self) -> tuple[int, int, int]:
        totals = self.object.map("totals")
        entries = contents.read_singly(totals, bpf.map_info(totals))
        ns, packets, polls = struct.unpack("=QQQ", entries[bytes(4)])
        return ns, packets, polls


@dataclass
class Router:
    """A network namespace behind the sender; `out_index` is the sender's interface to it."""

    namespace: lab.Namespace
    out_index: int
    index: int
    stack: ExitStack = field(repr=False)

    def poll_without_xdp(self) -> None:
        """Let the interface poll though it has no XDP program, as a network card's driver does."""
        self.namespace.run("ethtool", "-K", INTERFACE, "gro", "on")

    def run_xdp(self, program: Fd) -> None:
        """Attach a program in native mode."""
        with self.namespace.entered():
            attach.xdp_new(self.index, program, Mode.NATIVE, INTERFACE)

    def xdp_program(self) -> Fd:
        """Return the program that is attached."""
        link = json.loads(self.namespace.ip("-j", "link", "show", "dev", INTERFACE))[0]
        return program_by_id(int(link["xdp"]["prog"]["id"]))

    def delivered(self) -> int:
        """Return how many IP packets came through to the router's own sockets."""
        with self.namespace.entered():
            tables = Path("/proc/thread-self/net/snmp").read_text().splitlines()
            six = Path("/proc/thread-self/net/snmp6").read_text().split()
        head, values = (line.split() for line in tables if line.startswith("Ip: "))
        four = int(values[head.index("InDelivers")])
        return four + int(six[six.index("Ip6InDelivers") + 1])


@dataclass
class Gun:
    """Sends frames with the sources of one list to one router."""

    router: Router
    sender: lab.Namespace
    meter: Meter
    object: Loaded
    program: str
    frame: bytes

    def fire(self, packets: int) -> Reading:
        """Send so many packets and say what they cost."""
        before = self.router.delivered()
        self.meter.clear()
        program = self.object.program(self.program)
        with self.sender.entered():
            test_run(program, self.frame, packets, live=True)
        return self.meter.read(self.router.delivered() - before)

    def probe(self, program: Fd, packets: int) -> float:
        """Run a program on as many frames, without an interface; return the ns of a run.

        Raises KernelError where the kernel does not let it be called from another program.
        """
        slots = self.object.map("under_test")
        value = program.number.to_bytes(4, "little")
        contents.write_raw_one(slots, bpf.map_info(slots), bytes(4), value)
        probe = self.object.program(self.program.replace("send", "probe"))
        with self.router.namespace.entered():
            _, each_ns = test_run(probe, self.frame, packets, ingress=self.router.index)
        return each_ns


@dataclass
class Lab:
    """A sender with its meter."""

    sender: lab.Namespace
    meter: Meter
    bare: Loaded
    _count: int = 0

    @contextmanager
    def router(self) -> Iterator[Router]:
        """Make a router with addresses on its one interface."""
        with ExitStack() as stack:
            (namespace,) = stack.enter_context(lab.namespaces("router"))
            self._count += 1
            near = f"to{self._count}"
            lab.veth(self.sender, near, namespace, INTERFACE)
            namespace.ip("link", "set", "dev", INTERFACE, "address", MAC)
            for family, address in NET.items():
                # Packets that nothing stopped end in the router itself, and are counted there.
                lab.address(namespace, INTERFACE, address)
                namespace.ip(f"-{family}", "route", "add", "default", "dev", INTERFACE)
            yield Router(
                namespace, index_of(self.sender, near), index_of(namespace, INTERFACE), stack
            )

    @contextmanager
    def gun(self, router: Router, sources: Networks, frame: bytes | None = None) -> Iterator[Gun]:
        """Aim at a router with the given sources."""
        family = sources.family
        knobs = struct.pack("=II6sBx", len(sources), router.out_index, MAC_BYTES, HOPS)
        name = f"sources{family}"
        with loaded("wire", knobs, {name: len(sources)}) as found:
            frame = frame or datagram(family)
            write_elements(found.map(name), table_of(sources, frame))
            yield Gun(router, self.sender, self.meter, found, f"send{family}", frame)


def index_of(namespace: lab.Namespace, interface: str) -> int:
    """Return an interface's index."""
    return int(json.loads(namespace.ip("-j", "link", "show", "dev", interface))[0]["ifindex"])


def datagram(family: int, dest: str | None = None) -> bytes:
    """Return the smallest UDP frame to the router."""
    if family == 4:
        content = frames.udp(4242, 9, PAYLOAD)
        packet = frames.ipv4("192.0.2.1", dest or ROUTER[4], frames.UDP, content)
    else:
        packet = frames.ipv6("2001:db8:2::1", dest or ROUTER[6], frames.UDP, frames.udp(4242, 9))
    return MAC_BYTES + frames.ethernet(packet)[6:]


def table_of(sources: Networks, frame: bytes) -> bytes:
    """Return the sources as wire.bpf.c reads them, IPv4 ones with the header's checksum."""
    if sources.family == 6:
        return np.stack([sources.high, sources.low], axis=1).astype(">u8").tobytes()
    words = np.frombuffer(frame[14:34], ">u2").astype(np.uint64)
    rest = words.sum() - words[5] - words[6] - words[7]
    total = rest + (sources.low >> np.uint64(16)) + (sources.low & np.uint64(0xFFFF))
    for _ in range(2):
        total = (total >> np.uint64(16)) + (total & np.uint64(0xFFFF))
    rows = np.zeros(len(sources), [("address", ">u4"), ("checksum", ">u2"), ("pad", "u2")])
    rows["address"], rows["checksum"] = sources.low, np.uint64(0xFFFF) - total
    return rows.tobytes()


@contextmanager
def laboratory() -> Iterator[Lab]:
    """Make the sender's side, and keep this process on one CPU with it."""
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPU})
    try:
        with ExitStack() as stack:
            (sender,) = stack.enter_context(lab.namespaces("sender"))
            watched = struct.pack("=8s", INTERFACE.encode())
            meter = stack.enter_context(loaded("meter", watched))
            stack.enter_context(meter.attached("softirq_begins", "poll_ends"))
            bare = stack.enter_context(loaded("bare"))
            yield Lab(sender, Meter(meter), bare)
    finally:
        os.sched_setaffinity(0, home)


# The cross-check: a router that polls in a thread of its own, on the other CPU.


@contextmanager
def polling_thread(router: Router) -> Iterator[int]:
    """Move a router's polling into a kernel thread on the other CPU; return its process id."""
    before = set(_napi_threads())
    _set_threaded(router, "1")
    try:
        (thread,) = set(_napi_threads()) - before
        os.sched_setaffinity(thread, {OTHER_CPU})
        yield thread
    finally:
        _set_threaded(router, "0")


def _set_threaded(router: Router, value: str) -> None:
    # /sys shows the interfaces of whoever mounted it, and `ip netns exec` mounts it anew.
    path = f"/sys/class/net/{INTERFACE}/threaded"
    words = ["ip", "netns", "exec", router.namespace.name, "tee", path]
    subprocess.run(words, input=value.encode(), check=True, capture_output=True, timeout=10)


def _napi_threads() -> Iterator[int]:
    # Not by a glob of their files: a process that ends meanwhile would end it.
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "comm").read_text().startswith("napi/"):
                yield int(process.name)


def fire_at_thread(gun: Gun, packets: int) -> float:
    """Return the CPU time of the router's polling thread a packet, in ns."""
    with polling_thread(gun.router) as thread:
        before = _cpu_ns(thread)
        gun.fire(packets)
        time.sleep(0.02)
        return (_cpu_ns(thread) - before) / max(gun.meter.packets(), 1)


def _cpu_ns(process: int) -> int:
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
