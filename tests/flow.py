"""A steady flow between two namespaces, numbered so that every lost packet is known."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import Namespace

SO_RCVBUFFORCE = 33
NUMBER = struct.Struct("!I")


class SteadyFlow:
    """Numbered UDP datagrams at a fixed interval; answered, so that both directions are seen."""

    def __init__(self, sender: Namespace, receiver: Namespace, source: str, dest: str) -> None:
        port = 9000
        family = socket.AF_INET6 if ":" in dest else socket.AF_INET
        with receiver.entered():
            self._server = socket.socket(family, socket.SOCK_DGRAM)
            self._server.bind((dest, port))
        with sender.entered():
            self._client = socket.socket(family, socket.SOCK_DGRAM)
            self._client.bind((source, 0))
            self._client.connect((dest, port))
        for end in (self._server, self._client):
            # A reader that waits for the CPU is no loss on the way.
            end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._server.settimeout(0.5)
        self._client.settimeout(0.5)
        self._stop = threading.Event()
        self.sent = 0
        self.first = 0
        self.arrived: set[int] = set()
        self.answered: set[int] = set()
        jobs = (self._send, self._receive, self._hear)
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]

    def start(self) -> None:
        """Begin to send; what counts is what is sent after the first answer, when the hosts
        have found each other."""
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + 10
        while not self.answered and time.monotonic() < deadline:
            time.sleep(0.01)
        self.first = self.sent

    def _send(self) -> None:
        while not self._stop.is_set():
            self._client.send(NUMBER.pack(self.sent))
            self.sent += 1
            time.sleep(0.001)

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                data, peer = self._server.recvfrom(64)
            except (TimeoutError, OSError):
                continue
            self.arrived.add(NUMBER.unpack(data)[0])
            self._server.sendto(data, peer)

    def _hear(self) -> None:
        while not self._stop.is_set():
            try:
                self.answered.add(NUMBER.unpack(self._client.recv(64))[0])
            except (TimeoutError, OSError):
                continue

    def finish(self) -> None:
        """Stop sending, let the last ones arrive, close."""
        stop_at = self.sent
        time.sleep(0.3)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()
        self.sent = stop_at

    def lost(self) -> list[int]:
        """Return the numbers that did not arrive, or whose answers did not."""
        return sorted(set(range(self.first, self.sent)) - (self.arrived & self.answered))


@contextmanager
def steady_flow(
    sender: Namespace, receiver: Namespace, source: str, dest: str
) -> Iterator[SteadyFlow]:
    """Run a steady flow; afterwards `lost()` tells."""
    flow = SteadyFlow(sender, receiver, source, dest)
    flow.start()
    try:
        yield flow
    finally:
        flow.finish()
