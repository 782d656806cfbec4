"""Requests on connections: read, answered in a thread, written. All of it in one asyncio loop.

The loop alone reads from and writes to clients, so that a slow, silent or babbling one costs a
socket and stops nobody. Answers are made in threads, a few at a time.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fos1d.report.connections import Connection, Connections, Limits
from fos1d.report.herald import TICK_S, Herald
from fos1d.report.http import (
    Request,
    Response,
    body_length,
    chunk,
    failed,
    read_head,
    refused,
    stream_head,
)
from fos1d.report.orders import MOST_BODY_BYTES, most_body_bytes, order
from fos1d.report.peers import GROUP, Peer, may_change, peer_of
from fos1d.report.refusal import ApiRefusal
from fos1d.report.routes import Service, collection_of, read
from fos1d.report.threads import in_thread
from fos1d.report.watch import Watch, watch_of


def _silent(message: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Options:
    """`may_change` says which peers may do more than read; `complain` hears of our own faults."""

    may_change: Callable[[Peer], bool] = may_change
    complain: Callable[[str], None] = _silent
    limits: Limits = field(default_factory=Limits)


class Server:
    """Answers connections. Made in the asyncio loop that it belongs to."""

    def __init__(self, service: Service, options: Options) -> None:
        self.connections = Connections(options.limits)
        self._service = service
        self._options = options
        self._limits = options.limits
        self._reads = asyncio.Semaphore(options.limits.reads)
        self._orders = asyncio.Semaphore(options.limits.orders)
        self._watches = asyncio.Semaphore(options.limits.watches)
        self._herald = Herald(service)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer all requests of one connection."""
        connection = Connection(reader, writer)
        try:
            if not self.connections.admit(connection):
                full = refused(ApiRefusal(503, "too many connections at once: try again"))
                await self._send(connection, full.to_bytes(keep_alive=False))
                return
            while await self._exchange(connection):
                pass
        except (ConnectionError, TimeoutError):
            connection.abort()
        finally:
            self.connections.forget(connection)
            await connection.close()

    async def _exchange(self, connection: Connection) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            request = await self._next(connection)
        except ApiRefusal as refusal:
            await self._send(connection, refused(refusal).to_bytes(keep_alive=False))
            return False
        if request is None:
            return False
        answer = await self._answer(connection, request)
        if isinstance(answer, Watch):
            await self._stream(connection, answer)
            return False
        await self._send(connection, answer.to_bytes(request.keep_alive))
        return request.keep_alive and not answer.close

    async def _next(self, connection: Connection) -> Request | None:
        with connection.idle():
            async with asyncio.timeout(self._limits.idle_s):
                return await read_head(connection.reader)

    async def _answer(self, connection: Connection, request: Request) -> Response | Watch:
        try:
            if request.method == "POST":
                return await self._order(connection, request)
            if request.method != "GET":
                raise ApiRefusal(
                    405, "only GET and POST are answered: what is declared is changed in its source"
                )
            await self._body(connection, request, MOST_BODY_BYTES)
            async with self._reads:
                return await in_thread(lambda: self._guarded(self._read, request))
        except ApiRefusal as refusal:
            return refused(refusal, close=True)

    async def _order(self, connection: Connection, request: Request) -> Response | Watch:
        peer = peer_of(connection.socket)
        if not await in_thread(lambda: self._options.may_change(peer)):
            raise ApiRefusal(
                403, f"this is for root and members of group {GROUP}, not for user {peer.uid}"
            )
        if self._orders.locked():
            raise ApiRefusal(429, "too many requests wait for the daemon already: try again")
        async with self._orders:
            body = await self._body(connection, request, most_body_bytes(request))
            whole = replace(request, body=body)
            return await in_thread(
                lambda: self._guarded(lambda found: order(found, self._service), whole)
            )

    def _read(self, request: Request) -> Response | Watch:
        collection = collection_of(request) if request.asks("watch") else None
        if collection is not None:
            return watch_of(request, self._service, collection)
        return read(request, self._service)

    def _guarded(
        self, work: Callable[[Request], Response | Watch], request: Request
    ) -> Response | Watch:
        """Answer, whatever happens: a fault of ours must not take the connection with it."""
        try:
            return work(request)
        except ApiRefusal as refusal:
            return refused(refusal)
        except Exception as error:
            self._options.complain(f"{request.method} {request.path}: {error!r}")
            return failed(error)

    async def _body(self, connection: Connection, request: Request, most: int) -> bytes:
        length = body_length(request, most)
        if length and request.headers.get("expect", "").lower() == "100-continue":
            connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with asyncio.timeout(self._limits.body_s):
            try:
                return await connection.reader.readexactly(length)
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("the client went in the middle of a body") from error

    async def _stream(self, connection: Connection, watch: Watch) -> None:
        if self._watches.locked():
            busy = refused(ApiRefusal(429, "too many watches at once: try again"))
            await self._send(connection, busy.to_bytes(keep_alive=False))
            return
        async with self._watches:
            await self._send(connection, stream_head())
            await self._tell(connection, watch)
            await self._send(connection, chunk(b""))

    async def _tell(self, connection: Connection, watch: Watch) -> None:
        """Send what changes, until the client goes or its time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + watch.timeout_s
        seen = self._service.seen()
        while not connection.is_gone:
            async with self._reads:
                news = await in_thread(lambda seen=seen: watch.news(seen))  # type: ignore[misc]
            if news:
                await self._send(connection, chunk(news))
            later = None
            while later is None and not connection.is_gone:
                if (left := deadline - loop.time()) <= 0:
                    return
                later = await self._herald.after(seen.world.version, min(left, 2 * TICK_S))
            seen = later or seen

    async def _send(self, connection: Connection, data: bytes) -> None:
        self.connections.make_room(connection, len(data))
        connection.writer.write(data)
        async with asyncio.timeout(self._limits.write_s):
            await connection.writer.drain()
