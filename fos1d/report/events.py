"""What happened: a ring of the newest events, counted where they repeat."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from fos1d.model.identity import Origin, ResourceId

MOST_EVENTS = 1000
MOST_DETAIL = 4096


class EventType(StrEnum):
    """Kubernetes' two types of event."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, maybe several times. Times are Unix seconds.

    `about` is None for what concerns the daemon or the source as a whole. `origin` is the place in
    the source that it is about, `action` what was done to the kernel (`create map …`), `detail`
    what is too long for a message, such as the verifier's log: the ring keeps only its end.
    """

    type: EventType
    reason: str
    message: str
    about: ResourceId | None = None
    revision: str = ""
    first_s: float = 0.0
    last_s: float = 0.0
    count: int = 1
    origin: Origin | None = None
    action: str = ""
    detail: str = ""


class Events:
    """The ring. `heard` is called with every event, repeated ones too (the journal)."""

    def __init__(self, clock: Callable[[], float], heard: Callable[[Event], None]) -> None:
        self._clock = clock
        self._heard = heard
        self._lock = threading.Lock()
        self._ring: OrderedDict[tuple[object, ...], Event] = OrderedDict()

    def add(self, event: Event) -> None:
        """Add an event that happens now."""
        now = self._clock()
        key = (event.type, event.reason, event.message, event.about)
        with self._lock:
            old = self._ring.pop(key, None)
            first, count = (old.first_s, old.count + 1) if old else (now, 1)
            stamped = replace(event, first_s=first, last_s=now, count=count)
            self._ring[key] = replace(stamped, detail=stamped.detail[-MOST_DETAIL:])
            while len(self._ring) > MOST_EVENTS:
                self._ring.popitem(last=False)
        self._heard(stamped)

    def newest(self, about: ResourceId | None = None) -> list[Event]:
        """Return the events, or those about one resource, oldest first."""
        with self._lock:
            return [e for e in self._ring.values() if about is None or e.about == about]
