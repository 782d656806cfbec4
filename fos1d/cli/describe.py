"""`fos1ctl describe`: all that is known of a resource, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fos1d.cli.client import Client, Refused, collection
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import (
    add_namespace,
    add_output,
    add_socket,
    add_words,
    client_of,
    namespace_of,
    output_of,
)
from fos1d.cli.recent import event_lines
from fos1d.cli.terminal import aligned, as_yaml, complain, fields, now_s, say, say_json, say_yaml
from fos1d.cli.words import Target, targets_of
from fos1d.report.times import age_since

Json = Mapping[str, Any]
NONE = "<none>"
ALWAYS_SHOWN = frozenset({"packets", "bytes", "translations", "exhausted"})
USAGE = {
    "bytesIn": "Bytes-In",
    "bytesOut": "Bytes-Out",
    "connections": "Connections",
    "blocked": "Blocked",
}


def register(subparsers: Any) -> None:
    """Add `describe` to fos1ctl."""
    parser = subparsers.add_parser(
        "describe",
        help="show all that is known of a resource",
        description="Show a resource's spec, conditions, where it comes from, its kernel objects,"
        " counters and events.",
    )
    add_words(parser, "KIND/NAME", "a resource, or a kind for all of it")
    add_namespace(parser)
    add_output(parser, "yaml", "json")
    add_socket(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print a page for each resource."""
    client, output, space = client_of(args), output_of(args), namespace_of(args)
    code = Exit.FINE
    pages: list[dict[str, Any]] = []
    for target in targets_of(args.words):
        try:
            pages += _pages(client, target, space)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            complain(str(refusal))
            code = Exit.DIFFERS
    if output:
        content = pages[0] if len(pages) == 1 else pages
        say_json(content) if output == "json" else say_yaml(content)
    elif pages:
        texts = ("\n".join(page_lines(page, client.path.parent)) for page in pages)
        say("\n\n\n".join(texts))
    elif code is Exit.FINE:
        raise Stop(Exit.DIFFERS, f"there are no such resources in name space {space}")
    return code


def _pages(client: Client, target: Target, space: str) -> Iterator[dict[str, Any]]:
    plural = target.kind.plural
    names: Sequence[str] = target.names
    if not names:
        found = client.get(collection(plural, space))["items"]
        names = [item["metadata"]["name"] for item in found]
    for name in names:
        resource = client.get(collection(plural, space, name))
        about = f"{target.kind.name}/{space}/{name}"
        events = client.get("/fos1/v1/events", {"about": about})["items"]
        yield {**resource, "events": events}


def page_lines(page: Json, runtime: Path) -> list[str]:
    """Return the page of one resource."""
    status = page["status"]
    parts = [
        fields(_head(page)),
        ["Spec:", *_indented(as_yaml(page["spec"]).splitlines() if page["spec"] else [NONE])],
        ["Conditions:", *_conditions(status)],
        *_kernel(status),
        ["Events:", *_events(page["events"])],
        *_detail(page, runtime),
    ]
    return [line for part in parts for line in part]


def _head(page: Json) -> Iterator[tuple[str, str]]:
    metadata, status = page["metadata"], page["status"]
    yield "Name", metadata["name"]
    yield "Namespace", metadata["namespace"]
    yield "Kind", page["kind"]
    yield "Labels", _pairs(metadata.get("labels", {}))
    yield "Annotations", _pairs(metadata.get("annotations", {}))
    yield "State", f"{status['state']} ({status['reason']})"
    if status["message"] and status["state"] not in ("Active", "Created"):
        yield "Because", status["message"]
    yield "Written in", f"{status['origin']['path']}:{status['origin']['line']}"
    yield "Revision", status["revision"] or f"{NONE}: no version was ever in force"
    yield "Generation", str(metadata["generation"])
    if created := metadata.get("creationTimestamp"):
        yield "Known since", f"{created} ({age_since(created, now_s())})"
    for remark in status.get("remarks", []):
        yield "Remark", remark
    if error := status.get("kernelError"):
        yield "Kernel", f"could not be asked: {error}"


def _pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs.items())) or NONE


def _conditions(status: Json) -> list[str]:
    rows = [
        (
            condition["type"],
            condition["status"],
            age_since(condition["lastTransitionTime"], now_s()),
            condition["reason"],
            condition["message"] or "-",
        )
        for condition in status["conditions"]
    ]
    return aligned(rows, ("Type", "Status", "Since", "Reason", "Message"), "  ")


def _kernel(status: Json) -> Iterator[list[str]]:
    """Yield what the kernel holds and has counted."""
    if (attached := status.get("attachedTo")) is not None:
        rows = [
            (
                place.get("interface") or place["cgroup"],
                place["hook"],
                place.get("mode", NONE),
                place.get("programId", "?"),
            )
            for place in attached
        ]
        header = ("Place", "Hook", "Mode", "Program-Id")
        yield ["Attached to:", *(aligned(rows, header, "  ") if rows else [f"  {NONE}"])]
    yield ["Kernel objects:", *_indented(status["objects"] or [NONE])]
    if (applied := status.get("appliedTo")) is not None:
        yield ["Applied to workloads:", *_workloads(applied)]
    if "activeConnections" in status:
        yield ["Translation:", *_indented(fields(_translation(status)))]
    if metrics := status.get("metrics"):
        yield from _metrics(metrics)
    if "mapId" in status:
        yield ["Map:", *_indented(fields(_map(status)))]
        yield ["Entries:", *_entries(status)]


def _workloads(applied: Sequence[Json]) -> list[str]:
    rows = [
        (
            f"{workload['namespace']}/{workload['podName']}",
            workload["cgroup"],
            *(str(workload.get("usage", {}).get(name, "-")) for name in USAGE),
        )
        for workload in applied
    ]
    return aligned(rows, ("Workload", "Cgroup", *USAGE.values()), "  ") if rows else [f"  {NONE}"]


def _metrics(metrics: Json) -> Iterator[list[str]]:
    if "byReason" in metrics:
        yield ["Counters:", *_counters(metrics)]
    if "byRule" in metrics:
        yield ["Rules:", *_rules(metrics["byRule"])]


def _translation(status: Json) -> Iterator[tuple[str, str]]:
    for place in status["externalAddresses"]:
        yield f"Outside, {place['interface']}", ", ".join(place["addresses"]) or NONE
    yield "Active connections", str(status["activeConnections"])
    for use in status["portUse"]:
        share = f"{use['used']} of {use['available']}"
        yield f"Ports, {use['protocol']}, {use['interface']}", share
    for name, count in status["metrics"].items():
        if count or name in ALWAYS_SHOWN:
            yield name, str(count)


def _rules(rules: Sequence[Json]) -> list[str]:
    rows = [
        (
            f"{rule['direction']}[{rule['index']}]",
            rule["action"],
            rule["packets"],
            rule["bytes"],
            rule["exceeded"] or "-",
            rule["origin"],
            rule["description"],
        )
        for rule in rules
    ]
    header = ("Rule", "Action", "Packets", "Bytes", "Exceeded", "Written in", "Description")
    return aligned(rows, header, "  ") if rows else [f"  {NONE}"]


def _counters(metrics: Json) -> list[str]:
    """Return the counters, and below their total the notes, which are beside them."""
    rows = [
        (count["reason"], count["packets"], count["bytes"])
        for count in metrics["byReason"]
        if count["packets"]
    ]
    judged = [row for row in rows if not row[0].startswith("note-")]
    whole = [("total", metrics["packets"], metrics["bytes"])]
    notes = [row for row in rows if row[0].startswith("note-")]
    shown = aligned([*judged, *whole, *notes], ("Reason", "Packets", "Bytes"), "  ")
    return shown if rows else [f"  {NONE}"]


def _map(status: Json) -> Iterator[tuple[str, str]]:
    yield "Id", str(status["mapId"])
    yield "Pin path", status.get("pinPath", NONE)
    yield "Entries", f"{status.get('entryCount', '-')} of {status['maxEntries']}"
    yield "Memory", f"{status['memoryUsage']} bytes"


def _entries(status: Json) -> list[str]:
    rows = [(entry["key"], entry["value"]) for entry in status["entries"]]
    if not rows:
        return [f"  {NONE}"]
    more = (status.get("entryCount") or 0) - len(rows)
    return aligned(rows, ("Key", "Value"), "  ") + ([f"  … and {more} more"] if more > 0 else [])


def _events(events: Sequence[Json]) -> list[str]:
    return _indented(event_lines(events, with_object=False) if events else [NONE])


def _detail(page: Json, runtime: Path) -> Iterator[list[str]]:
    """Yield the end of the newest long detail, and where all of it is."""
    details = [event["detail"] for event in page["events"] if event.get("detail")]
    if not details:
        return
    metadata = page["metadata"]
    name = f"{page['kind']}_{metadata['namespace']}_{metadata['name']}.log"
    whole = runtime / "details" / name
    where = f" (all of it: {whole})" if whole.exists() else ""
    yield [f"Detail of the last failure{where}:", *_indented(details[-1].splitlines()[-20:])]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
