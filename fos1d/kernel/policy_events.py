"""The packets that rules log: a thread that reads the ring buffer of the policies' programs.

It waits for the ring and for `cover`, and costs nothing meanwhile. The programs bound how much
they write for each rule; what found no room they count.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.errors import KernelError
from fos1d.kernel import bpf
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.counters import Count, program_counts
from fos1d.kernel.libbpf import RingFn, lib
from fos1d.model.packet import Address, LoggedPacket, Tuple
from fos1d.model.pins import SHARED_POLICY, state_family

EVENT = np.dtype(abi.POLICY_EVENT)
RINGS = state_family(SHARED_POLICY, "policy_events")
STOP, LOOK = b"s", b"l"


class PolicyEvents:
    """Calls `heard` with every logged packet and `lost` with how many found no room, both from a
    thread of its own. `cover` is called after each pass, which may have made the ring anew."""

    def __init__(
        self, bpffs: Bpffs, heard: Callable[[LoggedPacket], None], lost: Callable[[int], None]
    ) -> None:
        self._bpffs = bpffs
        self._heard = heard
        self._lost = lost
        self._known_lost = 0
        self._covered: tuple[int, ...] = ()
        self._thread: threading.Thread | None = None
        self._reading, self._writing = os.pipe()

    def cover(self) -> None:
        """Read the rings that are there now."""
        found = _rings(self._bpffs)
        if found == self._covered:
            return
        self._covered = found
        if self._thread is None:
            self._known_lost = events_lost(self._bpffs)
            self._thread = threading.Thread(target=self._run, name="packets", daemon=True)
            self._thread.start()
        else:
            os.write(self._writing, LOOK)

    def stop(self) -> None:
        """End reading; what is in the ring stays for the next daemon."""
        if self._thread is not None:
            os.write(self._writing, STOP)
            self._thread.join()
        os.close(self._reading)
        os.close(self._writing)

    def _run(self) -> None:
        while True:
            with _opened(self._bpffs, self._take) as rings:
                if self._read(rings) == STOP:
                    return

    def _read(self, rings: dict[int, int]) -> bytes:
        """Consume the rings, given by their descriptors, until told to stop or to look anew."""
        waiting = select.poll()
        for descriptor in (self._reading, *rings):
            waiting.register(descriptor, select.POLLIN)
        while True:
            for ring in rings.values():
                if lib().ring_buffer__consume(ring):
                    self._tell_of_loss()
            ready = [descriptor for descriptor, _ in waiting.poll()]
            if self._reading in ready:
                return os.read(self._reading, 1)

    def _take(self, raw: bytes) -> None:
        if len(raw) == EVENT.itemsize:
            self._heard(logged_packet(raw))

    def _tell_of_loss(self) -> None:
        lost = events_lost(self._bpffs)
        if lost > self._known_lost:
            self._lost(lost - self._known_lost)
        self._known_lost = lost


def _rings(bpffs: Bpffs) -> tuple[int, ...]:
    """Return the ids of the rings."""
    found = []
    with suppress(KernelError, OSError):
        for path in bpffs.pins(RINGS):
            with bpffs.open(path) as fd:
                found.append(bpf.map_info(fd).id)
    return tuple(found)


@contextmanager
def _opened(bpffs: Bpffs, take: Callable[[bytes], None]) -> Iterator[dict[int, int]]:
    """Open the rings: struct ring_buffer by a descriptor that is ready when one has something."""

    def sample(_context: int, data: int, size: int) -> int:
        take(ctypes.string_at(data, size))
        return 0

    callback, rings = RingFn(sample), {}
    with suppress(KernelError, OSError):
        for path in bpffs.pins(RINGS):
            with bpffs.open(path) as fd:
                if ring := lib().ring_buffer__new(fd.number, callback, None, None):
                    rings[lib().ring_buffer__epoll_fd(ring)] = ring
    try:
        yield rings
    finally:
        for ring in rings.values():
            lib().ring_buffer__free(ring)


def events_lost(bpffs: Bpffs) -> int:
    """Return how many packets were to be logged and found no room, since the counters began."""
    counts: dict[abi.Reason, Count] = {}
    with suppress(KernelError, OSError):
        counts = program_counts(bpffs, SHARED_POLICY)
    return counts.get(abi.Reason.NOTE_EVENTS_FULL, Count()).packets


def logged_packet(raw: bytes) -> LoggedPacket:
    """Read struct fos1_policy_event."""
    event = np.frombuffer(raw, EVENT)[0]
    is_v6 = bool(event["is_v6"])
    return LoggedPacket(
        int(event["time_ns"]),
        int(event["counter"]),
        int(event["kind"]),
        int(event["place_id"]),
        int(event["chain"]),
        abi.Reason(int(event["reason"])),
        Tuple(
            int(event["protocol"]),
            _address(event["source"], is_v6),
            _address(event["dest"], is_v6),
            int(event["source_port"]),
            int(event["dest_port"]),
            int(event["icmp_type"]),
            int(event["icmp_code"]),
        ),
        int(event["bytes"]),
        int(event["tcp_flags"]),
    )


def _address(words: npt.NDArray[np.uint32], is_v6: bool) -> Address:
    raw = words.tobytes()
    return IPv6Address(raw) if is_v6 else IPv4Address(raw[:4])
