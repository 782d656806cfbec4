"""A revision's short name."""

from __future__ import annotations

DIGITS = 12


def short(revision: str) -> str:
    """Return a commit's first digits, or `directory@` and the first digits of its digest."""
    kind, mark, digest = revision.rpartition("@")
    return f"{kind}{mark}{digest[:DIGITS]}"
