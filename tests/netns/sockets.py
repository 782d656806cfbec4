"""Sockets that answer. Programs in a network namespace of their own begin with this file, so it
imports nothing that takes time.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

WORD = b"12345678"
PATIENCE_S = 0.7
MOST_BYTES = 1 << 16


def family_of(address: str) -> socket.AddressFamily:
    """Return the address family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listening(address: str, port: int) -> socket.socket:
    """Return a TCP server's socket."""
    return socket.create_server((address, port), family=family_of(address))


class Echo:
    """A TCP server that sends back what comes."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._open.append(taken)
                threading.Thread(target=self._answer, args=(taken,), daemon=True).start()

    def _answer(self, taken: socket.socket) -> None:
        with suppress(OSError):
            while data := taken.recv(MOST_BYTES):
                taken.sendall(data)

    def close(self) -> None:
        """Close it and its connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()


def is_answered(made: socket.socket, patience_s: float = PATIENCE_S) -> bool:
    """Whether what is sent over a connection to an echo comes back soon."""
    made.settimeout(patience_s)
    try:
        made.sendall(WORD)
        got = b""
        while len(got) < len(WORD):
            data = made.recv(len(WORD) - len(got))
            if not data:
                return False
            got += data
    except OSError:
        return False
    return got == WORD
