"""One thread's worth of waiting for changes, shared by all watches; none where nobody watches."""

from __future__ import annotations

import asyncio

from fos1d.report.routes import Service
from fos1d.report.threads import in_thread
from fos1d.report.versions import Seen

TICK_S = 0.5


class Herald:
    """Tells watches of a new world. Belongs to one asyncio loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._news = asyncio.Condition()
        self._latest: Seen | None = None
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def after(self, version: int, timeout_s: float) -> Seen | None:
        """Return the world as soon as its version is above `version`; None after the timeout."""
        self._waiting += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(version))
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self._is_above(version))
                return self._latest
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1

    def _is_above(self, version: int) -> bool:
        return self._latest is not None and self._latest.world.version > version

    async def _follow(self, version: int) -> None:
        """Wait for changes as long as somebody waits for them."""
        while self._waiting:
            world = await in_thread(
                lambda version=version: self._service.desk.wait_for_change(version, TICK_S)  # type: ignore[misc]
            )
            version = world.version
            async with self._news:
                self._latest = self._service.versions.see(world)
                self._news.notify_all()
