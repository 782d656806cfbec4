"""Resources as JSON in Kubernetes' shapes. Pure: the world and the kernel's answers in, dicts out.

A resource's own fields in `status` (resources.md) are added only where the kernel was asked about
it: `details` is None for most resources of a long list.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fos1d.kinds.map import EBPFMap
from fos1d.model.identity import API_VERSION, ResourceId
from fos1d.report.contents import shown_entry
from fos1d.report.desk import Attached, Details, MapEntries, attached_of
from fos1d.report.documents import Documents
from fos1d.report.nat_views import nat_fields
from fos1d.report.policy_views import KINDS as POLICIES
from fos1d.report.policy_views import policy_fields
from fos1d.report.status import ResourceStatus
from fos1d.report.times import rfc3339
from fos1d.report.versions import Seen

Json = dict[str, Any]
UID_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "networking.fos1.io")
NOTE = "note-"
DROP = "drop-"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel said of a resource, or why it could not be asked."""

    details: Details | None = None
    error: str = ""


def uid_of(identity: ResourceId) -> str:
    """Return a resource's UID, the same on every router and after every restart."""
    return str(uuid.uuid5(UID_SPACE, str(identity)))


def labels_of(status: ResourceStatus) -> Mapping[str, str]:
    """Return a resource's labels."""
    return status.accepted.declaration.resource.metadata.labels if status.accepted else {}


def metadata_of(status: ResourceStatus, seen: Seen) -> Json:
    """Return a resource's metadata."""
    metadata: Json = {
        "name": status.id.name,
        "namespace": status.id.namespace,
        "uid": uid_of(status.id),
        "resourceVersion": seen.version_of(status.id),
        "generation": status.generation,
    }
    if created := rfc3339(status.created_s):
        metadata["creationTimestamp"] = created
    if status.accepted:
        written = status.accepted.declaration.resource.metadata
        if written.labels:
            metadata["labels"] = dict(written.labels)
        if written.annotations:
            metadata["annotations"] = dict(written.annotations)
    return metadata


def object_of(
    status: ResourceStatus, seen: Seen, documents: Documents, answer: Answer | None = None
) -> Json:
    """Return a resource as Kubernetes would; spec is empty if no version was ever in force."""
    accepted = status.accepted
    return {
        "apiVersion": API_VERSION,
        "kind": status.id.kind,
        "metadata": metadata_of(status, seen),
        "spec": documents.spec_of(accepted.declaration) if accepted else {},
        "status": status_of(status, answer or Answer()),
    }


def status_of(status: ResourceStatus, answer: Answer) -> Json:
    """Return a resource's status."""
    ready = status.ready.condition
    shown: Json = {
        "state": status.state,
        "reason": ready.reason,
        "message": ready.message,
        "observedGeneration": status.generation,
        "lastUpdated": rfc3339(status.updated_s),
        "revision": status.accepted.revision if status.accepted else "",
        "origin": {"path": status.origin.path, "line": status.origin.line},
        "conditions": conditions_of(status),
        "objects": list(status.objects),
    }
    if remarks := [*status.remarks, *status.gaps]:
        shown["remarks"] = remarks
    if answer.error:
        shown["kernelError"] = answer.error
    return shown | _own_fields(status, answer.details)


def conditions_of(status: ResourceStatus) -> list[Json]:
    """Return a resource's conditions, Ready first."""
    return [stamped.to_json(rfc3339(stamped.since) or "") for stamped in status.conditions.values()]


def _own_fields(status: ResourceStatus, details: Details | None) -> Json:
    match status.id.kind:
        case "EBPFProgram":
            return program_fields(status, details)
        case "EBPFMap":
            return _map_fields(status, details)
        case kind if kind in POLICIES:
            return policy_fields(status.id, details) | nat_fields(details)
        case "EBPFNATPolicy":
            return nat_fields(details)
        case _:
            return {}


def program_fields(status: ResourceStatus, details: Details | None) -> Json:
    """Return `attachedTo` and, where the kernel was asked, `metrics`."""
    attached = details.attached if details else map(attached_of, status.attached)
    fields: Json = {"attachedTo": [_attached(place) for place in attached]}
    if details is not None:
        fields["metrics"] = metrics_of(details.counts)
    return fields


def _attached(place: Attached) -> Json:
    shown = {
        "interface": place.interface,
        "cgroup": place.cgroup,
        "hook": place.hook,
        "mode": place.mode,
        "programId": place.program,
    }
    return {field: value for field, value in shown.items() if value}


def metrics_of(counts: Mapping[str, tuple[int, int]]) -> Json:
    """Return the sums, and packets and bytes by reason.

    A note is counted beside the reason of the same packet, so it is in no sum.
    """
    judged = {reason: count for reason, count in counts.items() if not reason.startswith(NOTE)}
    return {
        "packets": sum(packets for packets, _ in judged.values()),
        "bytes": sum(size for _, size in judged.values()),
        "drops": sum(count[0] for reason, count in judged.items() if reason.startswith(DROP)),
        "byReason": [
            {"reason": reason, "packets": packets, "bytes": size}
            for reason, (packets, size) in counts.items()
        ],
    }


def _map_fields(status: ResourceStatus, details: Details | None) -> Json:
    resource = status.accepted.declaration.resource if status.accepted else None
    if not isinstance(resource, EBPFMap):
        return {}
    pin = str(resource.spec.pin_path or "")
    fields: Json = {"maxEntries": resource.spec.effective_max_entries()}
    if details is None:
        return fields | ({"pinPath": pin} if pin else {})
    if details.pin_path or pin:
        fields["pinPath"] = details.pin_path or pin
    return fields | (_use_of(details.map, resource.spec.type) if details.map else {})


def _use_of(use: MapEntries, map_type: str) -> Json:
    shown = [shown_entry(map_type, key, value) for key, value in use.sample]
    counted = {} if use.entries is None else {"entryCount": use.entries}
    return {
        "mapId": use.id,
        **counted,
        "maxEntries": use.max_entries,
        "memoryUsage": use.memory_bytes,
        "entries": [{"key": key, "value": value} for key, value in shown],
    }


def details_of(status: ResourceStatus, details: Details) -> Json:
    """Return what the kernel says of a resource, without the rest."""
    return {"about": str(status.id), **_own_fields(status, details)}
