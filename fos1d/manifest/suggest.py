"""The nearest known word to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 253
MOST_COMPARED = 500


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` is most likely meant to be, or None."""
    if not word or len(word) > LONGEST:
        return None
    candidates = _candidates(word, known)
    near = get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return candidates[near[0]] if near else None


def _candidates(word: str, known: Iterable[str]) -> dict[str, str]:
    """Return the words worth comparing, by their lower case: comparing is slow."""
    reach = 2 + len(word) // 2
    pool = [name for name in sorted(known) if abs(len(name) - len(word)) <= reach]
    if len(pool) > MOST_COMPARED:
        pool = [name for name in pool if name[:1] == word[:1] or name[-1:] == word[-1:]]
    return {name.lower(): name for name in reversed(pool[:MOST_COMPARED])}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?`, or an empty string where nothing is near."""
    near = suggest(word, known)
    return f'; did you mean "{near}"?' if near else ""
