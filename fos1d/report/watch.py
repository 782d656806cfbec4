"""Watches: what changed since a client last heard, as Kubernetes streams it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fos1d.model.identity import ResourceId
from fos1d.report.http import Request
from fos1d.report.routes import Collection, Service, wants_table
from fos1d.report.status import ResourceStatus
from fos1d.report.table import asks_kernel, table_of
from fos1d.report.versions import Seen
from fos1d.report.views import Answer, object_of

DEFAULT_S = 3600.0
MOST_S = 86400.0

Change = tuple[str, ResourceStatus]


@dataclass(slots=True)
class Watch:
    """One client's watch. `shown` is what it knows; `asks`: each object's kernel state is read."""

    service: Service
    collection: Collection
    as_table: bool
    asks: bool
    timeout_s: float
    shown: dict[ResourceId, ResourceStatus] = field(default_factory=dict)

    def news(self, seen: Seen) -> bytes:
        """Return the events that bring the client up to date, a line each."""
        now = self.collection.of(seen.world.resources)
        lines = [self._line(change, seen) for change in changes(self.shown, now)]
        self.shown = now
        return b"".join(lines)

    def _line(self, change: Change, seen: Seen) -> bytes:
        kind, status = change
        asks = self.asks and kind != "DELETED"
        answer = self.service.ask(status) if asks else Answer()
        content: Mapping[str, Any] = (
            table_of(status.id.kind, [status], seen, lambda _: answer, self.service.clock())
            if self.as_table
            else object_of(status, seen, self.service.documents, answer)
        )
        event = {"type": kind, "object": content}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def watch_of(request: Request, service: Service, collection: Collection) -> Watch:
    """Return the watch that a request asks for. Raises ApiRefusal.

    Without a resourceVersion, or with 0, it begins with all that there is now.
    """
    seconds = request.seconds("timeoutSeconds", DEFAULT_S, MOST_S) or DEFAULT_S
    as_table, wanted = wants_table(request), request.asks("details")
    asks = wanted or (as_table and asks_kernel(collection.kind.name, wanted))
    watch = Watch(service, collection, as_table, asks, seconds)
    service.seen()
    if (version := request.query.get("resourceVersion", "")) not in ("", "0"):
        watch.shown = collection.of(service.versions.since(version))
    return watch


def changes(
    before: Mapping[ResourceId, ResourceStatus], now: Mapping[ResourceId, ResourceStatus]
) -> Iterator[Change]:
    """Yield what came, changed and went, each sorted by name."""
    for identity, status in now.items():
        if identity not in before:
            yield "ADDED", status
        elif before[identity] is not status:
            yield "MODIFIED", status
    for identity, status in before.items():
        if identity not in now:
            yield "DELETED", status
