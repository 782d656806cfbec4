"""The API's open connections, and who must go when there are too many, or too much is unread."""

from __future__ import annotations

import asyncio
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much clients may ask for. Times are for one head, one body, one response."""

    connections: int = 256
    watches: int = 64
    reads: int = 4
    orders: int = 8
    unread_bytes: int = 32 << 20
    idle_s: float = 60.0
    body_s: float = 30.0
    write_s: float = 20.0


class Connection:
    """One client. `idle_since` is None while a request of it is being answered; `sending_since`
    is when the newest answer began to go out. Times are those of the monotonic clock."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since: float | None = time.monotonic()
        self.sending_since = time.monotonic()

    @property
    def socket(self) -> socket.socket:
        """The connected socket."""
        found: socket.socket = self.writer.get_extra_info("socket")
        return found

    @property
    def unread_bytes(self) -> int:
        """How much was sent that the client has not read."""
        return self.writer.transport.get_write_buffer_size()

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed its end."""
        return self.reader.at_eof() or self.writer.is_closing()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Count as idle for as long as the next request is waited for."""
        self.idle_since = time.monotonic()
        try:
            yield
        finally:
            self.idle_since = None

    def abort(self) -> None:
        """Drop the connection with whatever is unread."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close the connection; let the client read what is on the way, but not for long."""
        self.writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()


class Connections:
    """All open connections. Belongs to one asyncio loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: set[Connection] = set()

    def admit(self, connection: Connection) -> bool:
        """Take a connection in, at the cost of the one idle longest; False if all are busy."""
        if len(self._open) >= self._limits.connections:
            idle = [(c.idle_since, c) for c in self._open if c.idle_since is not None]
            if not idle:
                return False
            _, oldest = min(idle, key=lambda found: found[0])
            self.forget(oldest)
            oldest.abort()
        self._open.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Leave a connection out."""
        self._open.discard(connection)

    def make_room(self, connection: Connection, more_bytes: int) -> None:
        """Drop the slowest readers until `more_bytes` for `connection` fit into memory."""
        connection.sending_since = time.monotonic()
        slow = [other for other in self._open if other.unread_bytes and other is not connection]
        total = sum(other.unread_bytes for other in slow) + connection.unread_bytes + more_bytes
        for other in sorted(slow, key=lambda other: other.sending_since):
            if total <= self._limits.unread_bytes:
                return
            total -= other.unread_bytes
            other.abort()

    def abort_all(self) -> None:
        """Drop every connection."""
        for connection in list(self._open):
            connection.abort()
