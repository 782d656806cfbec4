"""Resource versions: which state of the world a client has seen, so that a watch can go on there.

A version is a decimal number, as Kubernetes wants it: the second in which the daemon started,
then nine digits that count its changes. It grows over restarts, and one of an earlier daemon is
known as such.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from fos1d.model.identity import ResourceId
from fos1d.report.refusal import ApiRefusal
from fos1d.report.status import ResourceStatus, World

MOST_STATES = 8
_PER_START = 10**9

Resources = Mapping[ResourceId, ResourceStatus]


@dataclass(frozen=True, slots=True)
class Seen:
    """A world as it is handed out. `changed` is the version at which each resource changed."""

    world: World
    changed: Mapping[ResourceId, int]

    @property
    def version(self) -> str:
        """The version of a list of everything."""
        return self._text(self.world.version)

    def version_of(self, identity: ResourceId) -> str:
        """The version of one resource: it differs if and only if the resource changed."""
        return self._text(self.changed.get(identity, self.world.version))

    def _text(self, number: int) -> str:
        return str(int(self.world.started_s) * _PER_START + number)


@dataclass(slots=True)
class Versions:
    """The newest states that were handed out. Safe from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _states: list[tuple[int, Resources]] = field(default_factory=list)
    _seen: Seen | None = None

    def see(self, world: World) -> Seen:
        """Take note of a world, and return it with its resources' versions."""
        with self._lock:
            if self._seen is not None and self._seen.world.version >= world.version:
                return self._seen
            before = self._states[-1][1] if self._states else {}
            known = self._seen.changed if self._seen else {}
            changed = {
                identity: known.get(identity, world.version)
                if before.get(identity) is status
                else world.version
                for identity, status in world.resources.items()
            }
            if changed != known or not self._states:
                self._states = [*self._states[1 - MOST_STATES :], (world.version, world.resources)]
            self._seen = Seen(world, changed)
            return self._seen

    def since(self, version: str) -> Resources:
        """Return the resources as a client knows them that has seen `version`.

        Raises ApiRefusal: 400 if that is no version, 410 if it is too old or another daemon's.
        """
        if not version.isascii() or not version.isdigit():
            raise ApiRefusal(400, f'resourceVersion: "{version[:40]}" is not one of ours')
        start, number = divmod(int(version), _PER_START)
        with self._lock:
            position = bisect_right(self._states, number, key=lambda state: state[0])
            if self._seen is None or start != int(self._seen.world.started_s) or not position:
                raise ApiRefusal(410, f"resourceVersion {version} is too old; list again")
            return self._states[position - 1][1]
