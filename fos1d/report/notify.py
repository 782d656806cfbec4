"""What systemd is told (sd_notify(3)). Everything here does nothing where systemd did not ask."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

PINGS_PER_INTERVAL = 3


class Notifier:
    """What the daemon tells systemd; nothing where NOTIFY_SOCKET is not set."""

    def ready(self, status: str) -> None:
        """Say that the state of the source is in force, or that a reload is over."""
        _notify("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Say in one line how things are, for `systemctl status`."""
        _notify(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """Say that the daemon's loop is alive. Only the loop itself may say so."""
        _notify("WATCHDOG=1")

    def reloading(self, wanted: bool = True) -> None:
        """Say that a reload begins, if one was `wanted`; `ready` ends it."""
        if wanted:
            _notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, text: str = "stopping; the data path stays") -> None:
        """Say that the daemon ends."""
        _notify("STOPPING=1", f"STATUS={_one_line(text)}")

    def watchdog_interval_s(self) -> float | None:
        """Return how often to ping, in seconds; None where systemd does not wait for it."""
        return watchdog_interval_s(os.environ)


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Return how often to ping, in seconds; None where systemd does not wait for it.

    WATCHDOG_USEC is when systemd gives up: a third of it leaves room for a late ping.
    """
    try:
        limit_us = int(environment.get("WATCHDOG_USEC", "0"))
        meant = int(environment.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if limit_us <= 0 or meant != os.getpid():
        return None
    return limit_us / 1e6 / PINGS_PER_INTERVAL


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _notify(*lines: str) -> None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    try:
        from systemd import daemon
    except ImportError:
        return
    daemon.notify("\n".join(lines))
