"""What happened: a ring of the newest events, counted where they repeat."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from fos1d.model.identity import Origin, ResourceId

MOST_EVENTS = 1000
MOST_PACKETS = 1000
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
    `packet` are the fields of a packet that a rule has logged.
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
    packet: Mapping[str, object] | None = None


class Events:
    """The rings, one of packets and one of all else. `heard` is called with every event, repeated
    ones too (the journal)."""

    def __init__(self, clock: Callable[[], float], heard: Callable[[Event], None]) -> None:
        self._clock = clock
        self._heard = heard
        self._lock = threading.Lock()
        self._ring: OrderedDict[tuple[object, ...], Event] = OrderedDict()
        self._packets: OrderedDict[tuple[object, ...], Event] = OrderedDict()

    def add(self, event: Event) -> None:
        """Add an event that happens now."""
        now = self._clock()
        key = (event.type, event.reason, event.message, event.about)
        with self._lock:
            ring, most = self._place_of(event)
            old = ring.pop(key, None)
            first, count = (old.first_s, old.count + 1) if old else (now, 1)
            stamped = replace(event, first_s=first, last_s=now, count=count)
            ring[key] = replace(stamped, detail=stamped.detail[-MOST_DETAIL:])
            while len(ring) > most:
                ring.popitem(last=False)
        self._heard(stamped)

    def _place_of(self, event: Event) -> tuple[OrderedDict[tuple[object, ...], Event], int]:
        is_packet = event.packet is not None
        return (self._packets, MOST_PACKETS) if is_packet else (self._ring, MOST_EVENTS)

    def newest(self, about: ResourceId | None = None) -> list[Event]:
        """Return the events, or those about one resource, oldest first."""
        with self._lock:
            both = [*self._ring.values(), *self._packets.values()]
        found = [event for event in both if about is None or event.about == about]
        return sorted(found, key=lambda event: event.last_s)
