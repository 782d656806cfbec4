"""The container engines of this machine, asked when there is a reason, each by threads of its own.

An engine that hangs keeps nobody waiting. While none of its containers runs, it is left alone:
podman's service then ends, and starts again when it is asked the next time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from fos1d.kernel.workloads.engine import ANSWER_S, Engine, EngineError, engines
from fos1d.kernel.workloads.identify import Container

MOST_ENGINES = 16
RETRY_S = (0.1, 0.5, 2.0, 10.0)
LIVE_RETRY_S = 5.0
# Docker tells of a network's connection before its list shows it.
LATE_S = 0.5


class Engines:
    """All engines. `changed` is called, in their threads, when one of them says something new."""

    def __init__(
        self, changed: Callable[[], None], root: Path, known: Sequence[Container] = ()
    ) -> None:
        self._changed = changed
        self._root = root
        self._known = tuple(known)
        self._asked: dict[Engine, _Asked] = {}

    def ask(self, running: Collection[str]) -> None:
        """Have the engines list their containers; `running` are the ids that have cgroups."""
        for engine in engines(self._root):
            if engine not in self._asked and len(self._asked) < MOST_ENGINES:
                self._asked[engine] = _Asked(engine, self._changed)
        for asked in self._asked.values():
            asked.ask(frozenset(running))

    def wait(self) -> None:
        """Wait until every engine has answered once, or has had its time."""
        for asked in self._asked.values():
            asked.answered.wait(ANSWER_S)

    def containers(self) -> tuple[Container, ...]:
        """Return what the engines said last, and before them what was known of old."""
        said = [c for _, asked in sorted(self._asked.items()) for c in asked.containers]
        fresh = {container.id for container in said}
        return (*said, *(old for old in self._known if old.id not in fresh))

    def problems(self) -> tuple[str, ...]:
        """Return what keeps engines from being asked."""
        return tuple(asked.problem for _, asked in sorted(self._asked.items()) if asked.problem)

    def stop(self) -> None:
        """End all threads."""
        for asked in self._asked.values():
            asked.stop()


class _Asked:
    """One engine: a thread that lists, and one that follows its events while containers run."""

    def __init__(self, engine: Engine, changed: Callable[[], None]) -> None:
        self._engine = engine
        self._changed = changed
        self.containers: tuple[Container, ...] = ()
        self.problem = ""
        self.answered = threading.Event()
        self._running: frozenset[str] = frozenset()
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._stream: socket.socket | None = None
        self._follower: threading.Thread | None = None
        threading.Thread(target=self._list_when_wanted, name="engine", daemon=True).start()

    def ask(self, running: frozenset[str]) -> None:
        self._running = running
        self._wanted.set()

    def stop(self) -> None:
        self._stopped.set()
        self._wanted.set()
        self._hang_up()

    def _list_when_wanted(self) -> None:
        failures, pause = 0, None
        while True:
            asked = self._wanted.wait(pause)
            if self._stopped.is_set():
                return
            self._wanted.clear()
            failures = 0 if self._list() or not self._running else failures + 1
            pause = self._pause(failures, asked)
            self.answered.set()
            self._follow_or_not()

    def _pause(self, failures: int, asked: bool) -> float | None:
        """Return when to list again, though nobody asks: after a failure, and once after news."""
        if failures:
            return RETRY_S[min(failures, len(RETRY_S)) - 1]
        return LATE_S if asked else None

    def _list(self) -> bool:
        try:
            containers = self._engine.containers()
        except EngineError as error:
            self.problem = str(error)
            return False
        self.problem = ""
        if containers != self.containers:
            self.containers = containers
            self._changed()
        return True

    def _follow_or_not(self) -> None:
        wanted = any(container.id in self._running for container in self.containers)
        if not wanted:
            self._hang_up()
        elif self._follower is None or not self._follower.is_alive():
            self._follower = threading.Thread(target=self._follow, name="events", daemon=True)
            self._follower.start()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            with suppress(EngineError):
                self._engine.follow(self._wanted.set, self._opened)
            if self._stream is None:
                return
            self._stopped.wait(LIVE_RETRY_S)

    def _opened(self, stream: socket.socket) -> None:
        self._stream = stream

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
