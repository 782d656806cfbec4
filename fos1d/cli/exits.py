"""Exit codes of fos1ctl, as docs/reference/cli.md promises them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command's end says."""

    FINE = 0
    DIFFERS = 1
    """Differences found, a condition not reached, not all Ready, no such resource."""
    USAGE = 2
    INVALID = 3
    UNREACHABLE = 4
    REFUSED = 5
    INTERRUPTED = 130


class Stop(Exception):
    """End the command with this exit code, and one line on stderr that says what to do."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
