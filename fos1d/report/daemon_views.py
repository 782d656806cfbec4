"""The daemon as JSON: its state, events, history, plans."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fos1d import __version__
from fos1d.kinds import KINDS
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import API_VERSION, ResourceId
from fos1d.report.desk import PlannedAction, PlanView, Revision
from fos1d.report.events import Event
from fos1d.report.status import ResourceStatus, World
from fos1d.report.times import rfc3339

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What the daemon is, besides what it knows. `log` is where it writes: journal, text, json."""

    log: str = ""
    pid: int = 0


def status_of(world: World, about: About) -> Json:
    """Return the state of the daemon, with every resource that is not Ready."""
    return {
        "kind": "DaemonStatus",
        "apiVersion": "fos1.io/v1",
        "version": __version__,
        "node": world.node,
        "pid": about.pid,
        "log": about.log,
        "startedAt": rfc3339(world.started_s),
        "source": {
            "place": world.source.place,
            "revision": world.source.revision,
            "readAt": rfc3339(world.source.read_s),
            "error": world.source.error,
        },
        "passes": _passes(world),
        "driftHealed": world.drift_total,
        "suspended": _suspended(world),
        "held": [str(identity) for identity in world.held],
        "resources": counts_of(world),
        "notReady": [_not_ready(status) for status in world.not_ready],
        "findings": [finding.to_json() for finding in world.findings],
        "summary": world.summary(),
        "healthy": is_healthy(world),
    }


def is_healthy(world: World) -> bool:
    """Whether all that the source asks for is in force and read back."""
    return (
        world.passes > 0
        and not world.not_ready
        and not world.error
        and not world.source.error
        and not world.held
        and not errors_of(world.findings)
    )


def _passes(world: World) -> Json:
    return {
        "count": world.passes,
        "lastAt": rfc3339(world.last_pass_s),
        "lastTookSeconds": round(world.last_pass_took_s, 6),
        "error": world.error,
    }


def _suspended(world: World) -> Json:
    """Return whether passes are suspended; `until` is null if that has no end."""
    until = world.suspended_until_s
    if until is None:
        return {"suspended": False}
    return {"suspended": True, "until": rfc3339(until) if math.isfinite(until) else None}


def counts_of(world: World) -> Json:
    """Return how many resources of each kind there are, and how many are Ready."""
    total = Counter(identity.kind for identity in world.resources)
    late = Counter(status.id.kind for status in world.not_ready)
    return {
        kind.name: {"total": total[kind.name], "ready": total[kind.name] - late[kind.name]}
        for kind in KINDS
        if total[kind.name]
    }


def _not_ready(status: ResourceStatus) -> Json:
    ready = status.ready
    return {
        **reference(status.id),
        "state": status.state,
        "reason": ready.condition.reason,
        "message": ready.condition.message,
        "since": rfc3339(ready.since),
        "origin": {"path": status.origin.path, "line": status.origin.line},
    }


def reference(identity: ResourceId) -> Json:
    """Return who a resource is."""
    return {"kind": identity.kind, "namespace": identity.namespace, "name": identity.name}


def events_of(events: Iterable[Event], node: str) -> Json:
    """Return events as Kubernetes lists them, oldest first."""
    return {
        "kind": "EventList",
        "apiVersion": "v1",
        "metadata": {},
        "items": [_event(event, node) for event in events],
    }


def _event(event: Event, node: str) -> Json:
    about = event.about
    involved = {"apiVersion": API_VERSION, **reference(about)} if about else {"kind": "Node"}
    shown: Json = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"{about.name if about else 'fos1d'}.{_digest(event)}",
            "namespace": about.namespace if about else "default",
        },
        "involvedObject": involved if about else {**involved, "name": node},
        "type": str(event.type),
        "reason": event.reason,
        "message": event.message,
        "count": event.count,
        "firstTimestamp": rfc3339(event.first_s),
        "lastTimestamp": rfc3339(event.last_s),
        "source": {"component": "fos1d", "host": node},
        "revision": event.revision,
    }
    if event.action:
        shown["action"] = event.action
    if event.origin:
        shown["origin"] = {"path": event.origin.path, "line": event.origin.line}
    if event.packet is not None:
        shown["packet"] = dict(event.packet)
    return {**shown, "detail": event.detail} if event.detail else shown


def _digest(event: Event) -> str:
    what = repr((event.type, event.reason, event.message, event.about))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def history_of(revisions: Iterable[Revision]) -> Json:
    """Return the revisions that were put in force or tried, newest first."""
    items = [
        {
            "revision": revision.revision,
            "time": rfc3339(revision.time_s),
            "author": revision.author,
            "subject": revision.subject,
            "result": revision.result,
            "ready": revision.ready,
            "total": revision.total,
            "actions": revision.actions,
            "message": revision.message,
        }
        for revision in revisions
    ]
    return {"kind": "RevisionList", "apiVersion": "fos1.io/v1", "items": items}


def plan_of(plan: PlanView) -> Json:
    """Return what a pass would do."""
    verbs = Counter(action.verb for action in plan.actions)
    return {
        "kind": "Plan",
        "apiVersion": "fos1.io/v1",
        "revision": plan.revision,
        "valid": not errors_of(plan.findings),
        "resources": plan.declared,
        "counts": {verb: verbs[verb] for verb in ("create", "replace", "delete")},
        "actions": [_action(action) for action in plan.actions],
        "conflicts": list(plan.conflicts),
        "findings": [_finding(finding) for finding in plan.findings],
        "kept": [str(identity) for identity in plan.kept],
        "held": [str(identity) for identity in plan.held],
    }


def _action(action: PlannedAction) -> Mapping[str, object]:
    return {
        "verb": action.verb,
        "kind": action.kind,
        "name": action.name,
        "text": action.text,
        "resources": [str(identity) for identity in action.claimants],
    }


def _finding(finding: Diagnostic) -> Mapping[str, object]:
    return finding.to_json()
