"""Blocking work beside an asyncio loop: a short-lived thread for each piece.

Unlike an executor's, such a thread keeps no process alive that wants to end, and costs nothing
while nobody asks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread; return what it returns, raise what it raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            _settle(loop, future, lambda error=error: future.set_exception(error))  # type: ignore[misc]
        else:
            _settle(loop, future, lambda: future.set_result(result))

    threading.Thread(target=run, name="api", daemon=True).start()
    return await future


def _settle(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[[], None]
) -> None:
    def if_wanted() -> None:
        if not future.done():
            settle()

    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(if_wanted)
