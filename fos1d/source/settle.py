"""When a changing directory tree may be looked at: a state machine fed with changes and a clock.

What arrives whole, by a rename or a symlink swap, is taken at once. What is written in place is
taken when its writer has closed it and it has been quiet for a moment. A file that vanished may be
an editor's half-done save: it has a moment to come back. Nothing waits for ever: a file that stays
open is passed over after a while, and keeps the content that it had.

Pure: the caller brings the time, in seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from fos1d.source.names import is_manifest


class What(StrEnum):
    """What happened to a path."""

    PLACED = "placed"  # it is there, whole
    WRITTEN = "written"  # somebody has it open and writes
    CLOSED = "closed"  # whoever wrote it has closed it
    GONE = "gone"
    TOUCHED = "touched"  # anything else: a new folder, its mode, its owner
    LOST = "lost"  # the kernel dropped events: anything may have happened anywhere


class Change(NamedTuple):
    """One thing that happened. The two halves of a rename have the same `cookie`, not 0."""

    what: What
    path: str
    folder: bool = False
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long what is waited for, in seconds."""

    quiet_s: float = 0.05  # after the last file was closed: the next may follow
    absence_s: float = 0.25  # after a file vanished: it may come back
    restless_s: float = 2.0  # at most for quiet, counted from the first change
    limit_s: float = 5.0  # at most for everything, and for one file to be closed


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened since the last snapshot."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not yet; look again at `until`."""

    until: float


@dataclass(frozen=True, slots=True)
class Ready:
    """Take a snapshot now, in which the `held` paths keep their previous content.

    `patient` says that there is still time to wait for files that others are found to write.
    """

    held: frozenset[str] = frozenset()
    patient: bool = True


Verdict = Quiet | Waiting | Ready

DEFAULT_TIMING = Timing()


class Settle:
    """The changes since the last snapshot, as far as they matter for when to take the next."""

    def __init__(self, now: float, timing: Timing = DEFAULT_TIMING) -> None:
        """Begin as if something had just happened, since what happened before is not known."""
        self.count = 0
        self._timing = timing
        self._known: AbstractSet[str] = frozenset()
        self._since: float | None = now
        self._touched: dict[str, float] = {"": now}
        self._written: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._leaving: Change | None = None

    def feed(self, change: Change, now: float) -> None:
        """Take note of a change. `count` tells one state from the next."""
        if change.what is What.WRITTEN and change.path in self._written:
            return
        self.count += 1
        if self._since is None:
            self._since = now
        self._forget(change)
        match change.what:
            case What.PLACED:
                self._finish_move(change)
            case What.WRITTEN:
                self._written[change.path] = now
            case What.CLOSED | What.TOUCHED:
                self._touched[change.path] = now
            case What.LOST:
                self._written.clear()
                self._gone.clear()
                self._touched[""] = now
            case What.GONE:
                self._leaving = change
                if change.path in self._known:
                    self._gone[change.path] = now

    def _forget(self, change: Change) -> None:
        """Drop what was pending for the path; below it too, for a folder that went away."""
        for pending in (self._touched, self._written, self._gone):
            if change.what is What.TOUCHED and pending is self._written:
                continue
            pending.pop(change.path, None)
            if change.folder and change.what is What.GONE:
                for path in [path for path in pending if path.startswith(f"{change.path}/")]:
                    del pending[path]

    def _finish_move(self, change: Change) -> None:
        """Do not wait for a file to come back that just replaced a known manifest."""
        left, self._leaving = self._leaving, None
        replaces = change.path in self._known and is_manifest(change.path)
        if left and left.cookie and left.cookie == change.cookie and replaces:
            self._gone.pop(left.path, None)

    def verdict(self, now: float) -> Verdict:
        """Say whether a snapshot may be taken now."""
        if self._since is None:
            return Quiet()
        limit = self._since + self._timing.limit_s
        until = min(self._until(self._since), limit)
        if now < until:
            return Waiting(until)
        return Ready(frozenset(self._written) | self._young(now), patient=now < limit)

    def _until(self, since: float) -> float:
        timing, until = self._timing, since
        if self._written:
            until = max(until, _latest(self._written) + timing.limit_s)
        if self._gone:
            until = max(until, _latest(self._gone) + timing.absence_s)
        if self._touched:
            quiet = _latest(self._touched) + timing.quiet_s
            until = max(until, min(quiet, since + timing.restless_s))
        return until

    def _young(self, now: float) -> frozenset[str]:
        """Return the paths that vanished so recently that they may still come back."""
        absence = self._timing.absence_s
        return frozenset(path for path, at in self._gone.items() if now < at + absence)

    def again(self, now: float) -> None:
        """Note that a snapshot could not be taken: try again soon."""
        self.count += 1
        self._since = now if self._since is None else self._since
        self._touched.pop("", None)
        self._touched[""] = now

    def begin(self, known: AbstractSet[str], now: float) -> None:
        """Note what there is when the tree begins to be watched, before the first snapshot."""
        self._known = known
        self.again(now)

    def taken(self, known: AbstractSet[str], now: float) -> None:
        """Note that a snapshot was taken, and which paths there were."""
        self.count += 1
        self._known = known
        self._touched.clear()
        self._gone = {path: self._gone[path] for path in self._young(now)}
        self._since = min(self._gone.values(), default=None)


def _latest(times: dict[str, float]) -> float:
    """Return the time of the newest entry: whatever is noted anew goes to the end."""
    return next(reversed(times.values()))
