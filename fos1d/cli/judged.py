"""A pushed revision, judged by the daemon: it has loaded all that judging takes.

Imports little, since somebody waits for the hook.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fos1d.cli.client import Client, find_socket
from fos1d.cli.diff import finding_line, plan_lines
from fos1d.cli.exits import Stop
from fos1d.model.snapshot import Snapshot
from fos1d.report.short import short

TIMEOUT_S = 10.0
MOST_BYTES = 4 << 20
"""What may be handed over whole. Of more, the hook finds out itself which files matter."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong or odd in a revision, and what the daemon would do for it."""

    findings: tuple[str, ...]
    errors: int
    declared: int
    plan: str


def ask_daemon(snapshot: Snapshot) -> Judgement | None:
    """Return what the daemon says of a revision; None if it does not answer, or too much would
    have to be handed over."""
    if sum(blob.size_bytes for blob in snapshot.blobs.values()) > MOST_BYTES:
        return None
    files = {path: base64.b64encode(blob.read()).decode() for path, blob in snapshot.blobs.items()}
    client = Client(find_socket(None))
    try:
        query = {"timeoutSeconds": f"{TIMEOUT_S:g}"}
        plan = client.post("/fos1/v1/plan", query, {"files": files}, TIMEOUT_S)
    except Stop:
        return None
    finally:
        client.close()
    # A daemon of an earlier version does not count.
    return _judgement(plan, snapshot) if "resources" in plan else None


def _judgement(plan: Mapping[str, Any], snapshot: Snapshot) -> Judgement:
    return Judgement(
        tuple(finding_line(finding) for finding in plan["findings"]),
        sum(finding["severity"] == "error" for finding in plan["findings"]),
        plan["resources"],
        "\n".join(plan_lines(plan, short(snapshot.revision))),
    )
