"""Times as Kubernetes writes them: RFC 3339 for programs, a rounded age for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 31536000


def rfc3339(unix_s: float) -> str | None:
    """Return a Unix time as `2026-01-31T12:00:00Z`; None for 0, which stands for never."""
    return _written(int(unix_s)) if unix_s and math.isfinite(unix_s) else None


@lru_cache(512)
def _written(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(seconds: float) -> str:
    """Return a span of time as kubectl rounds it: `7s`, `3m20s`, `5h`, `3d4h`, `42d`."""
    whole = max(0, int(seconds))
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < 10 * MINUTE:
        return _two(whole, MINUTE, "m", 1, "s")
    if whole < 3 * HOUR:
        return f"{whole // MINUTE}m"
    if whole < 8 * HOUR:
        return _two(whole, HOUR, "h", MINUTE, "m")
    if whole < 2 * DAY:
        return f"{whole // HOUR}h"
    if whole < 8 * DAY:
        return _two(whole, DAY, "d", HOUR, "h")
    if whole < 2 * YEAR:
        return f"{whole // DAY}d"
    return _two(whole, YEAR, "y", DAY, "d")


def _two(whole: int, large: int, unit: str, small: int, small_unit: str) -> str:
    rest = whole % large // small
    return f"{whole // large}{unit}{rest}{small_unit}" if rest else f"{whole // large}{unit}"


def unix_s(written: str) -> float:
    """Return the Unix time that `rfc3339` wrote."""
    return datetime.fromisoformat(written).timestamp()


def age_since(written: str | None, now_s: float) -> str:
    """Return how long ago a written time was, `-` for never."""
    return age(now_s - unix_s(written)) if written else "-"
