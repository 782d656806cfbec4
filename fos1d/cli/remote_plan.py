"""The daemon's plan for a revision that is being pushed, for the pre-receive hook."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from fos1d.cli.client import Client, Unreachable, find_socket
from fos1d.cli.diff import plan_lines
from fos1d.cli.exits import Stop
from fos1d.kinds.check.references import referenced_files
from fos1d.kinds.validate import parse_blob
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.report.short import short

TIMEOUT_S = 10.0


def plan_text(snapshot: Snapshot) -> str | None:
    """Return what the daemon would do for a valid revision, for people; None if none answers."""
    files = {blob.path: base64.b64encode(blob.read()).decode() for blob in needed(snapshot)}
    client = Client(find_socket(None))
    try:
        query = {"timeoutSeconds": f"{TIMEOUT_S:g}"}
        plan = client.post("/fos1/v1/plan", query, {"files": files}, TIMEOUT_S)
    except Unreachable:
        return None
    except Stop as stop:
        return f"fos1d: plan not shown: {stop}"
    finally:
        client.close()
    return "\n".join(plan_lines(plan, short(snapshot.revision)))


def needed(snapshot: Snapshot) -> Iterator[Blob]:
    """Yield the manifests, and the files that they refer to."""
    manifests = snapshot.manifests()
    yield from manifests
    paths = {
        path
        for blob in manifests
        for declaration in parse_blob(blob).declarations
        for _, path in referenced_files(declaration)
    }
    for path in sorted(paths - {blob.path for blob in manifests}):
        if path in snapshot.blobs:
            yield snapshot.blobs[path]
