"""The API: HTTP with JSON on a unix socket, in Kubernetes' shapes. docs/reference/api.md lists it.

listen.py       the socket file            connections.py  who must go when there are too many
server.py       requests on connections    http.py         heads, bodies, chunks
routes.py       answers to GET             orders.py       answers to POST (peers.py: for whom)
views.py        resources as JSON          table.py        resources as tables
watch.py        what changed               versions.py     since when
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from fos1d.report.daemon_views import About
from fos1d.report.desk import Desk
from fos1d.report.http import MOST_HEAD_BYTES
from fos1d.report.listen import Listener, listen
from fos1d.report.routes import Service
from fos1d.report.server import Options, Server


class ApiServer:
    """The API of one daemon, in a thread of its own. `log` says where the daemon logs."""

    def __init__(
        self,
        path: Path,
        desk: Desk,
        log: str = "",
        clock: Callable[[], float] = time.time,
        options: Options | None = None,
    ) -> None:
        self._path = path
        self._service = Service(desk, About(log, os.getpid()), clock)
        self._options = options or Options()
        self._stop: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen and answer from now on; return what of the socket could not be had, or "".

        Raises SettingsError if another daemon answers there, or the place cannot be used.
        """
        listener = listen(self._path)
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, started)), name="api", daemon=True
        )
        self._thread.start()
        started.wait()
        return listener.remark

    def stop(self) -> None:
        """Close every connection and remove the socket."""
        if self._stop is not None and self._thread is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._stop()
            self._thread.join()

    async def _run(self, listener: Listener, started: threading.Event) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = partial(loop.call_soon_threadsafe, stopping.set)
        loop.set_exception_handler(lambda _, fault: self._options.complain(fault["message"]))
        server = Server(self._service, self._options)
        accepting = await asyncio.start_unix_server(
            server.serve, sock=listener.socket, limit=MOST_HEAD_BYTES
        )
        started.set()
        try:
            await stopping.wait()
        finally:
            accepting.close()
            listener.close()
            server.connections.abort_all()
