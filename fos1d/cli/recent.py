"""`fos1ctl events`, `logs` and `history`: what happened."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fos1d.cli.client import Client, Unreachable
from fos1d.cli.exits import Exit
from fos1d.cli.options import (
    add_namespace,
    add_output,
    add_socket,
    add_words,
    client_of,
    namespace_of,
    output_of,
)
from fos1d.cli.terminal import aligned, note, now_s, plain, say, say_json
from fos1d.cli.words import one_target, resource_id
from fos1d.model.identity import ResourceId
from fos1d.report.short import short
from fos1d.report.times import age_since

Json = Mapping[str, Any]
IDENTIFIER = "fos1d"
POLL_S = 1.0


def register(subparsers: Any) -> None:
    """Add `events`, `logs` and `history` to fos1ctl."""
    events = subparsers.add_parser("events", help="show what happened, oldest first")
    add_words(events, "KIND/NAME", "only what is about this resource")
    add_namespace(events)
    add_output(events, "json")
    logs = subparsers.add_parser(
        "logs",
        help="show the log: journald where there is one, the daemon's memory otherwise",
    )
    add_words(logs, "KIND/NAME", "only what is about this resource")
    add_namespace(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="go on as more comes")
    add_output(logs, "json")
    history = subparsers.add_parser("history", help="show the revisions, newest first")
    add_output(history, "json")
    for parser, run in ((events, run_events), (logs, run_logs), (history, run_history)):
        add_socket(parser)
        parser.set_defaults(func=run)


def _about(args: argparse.Namespace) -> ResourceId | None:
    if not args.words:
        return None
    kind, name = one_target(args.words)
    return resource_id(kind, namespace_of(args), name)


def _events(client: Client, about: ResourceId | None, args: argparse.Namespace) -> list[Any]:
    found = client.get("/fos1/v1/events", {"about": str(about)} if about else {})["items"]
    space = args.namespace if about is None else None
    return [e for e in found if space in (None, e["involvedObject"].get("namespace"))]


# events


def run_events(args: argparse.Namespace) -> int:
    """Print events as a table."""
    about = _about(args)
    found = _events(client_of(args), about, args)
    if output_of(args) == "json":
        say_json({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": found})
    elif found:
        say("\n".join(event_lines(found, with_object=about is None)))
    else:
        note("No events")
    return Exit.FINE


def event_lines(events: Sequence[Json], with_object: bool) -> list[str]:
    """Return a table of events."""
    header = ["Last seen", "Type", "Reason", *(["Object"] if with_object else []), "Message"]
    return aligned((_event_row(event, with_object) for event in events), header)


def _event_row(event: Json, with_object: bool) -> list[str]:
    row = [_seen(event), event["type"], event["reason"]]
    return [*row, *([_object(event)] if with_object else []), event["message"]]


def _seen(event: Json) -> str:
    last = age_since(event["lastTimestamp"], now_s())
    if event["count"] == 1:
        return last
    return f"{last} (x{event['count']} over {age_since(event['firstTimestamp'], now_s())})"


def _object(event: Json) -> str:
    about = event["involvedObject"]
    if about["kind"] == "Node":
        return f"Node/{about['name']}"
    return f"{about['kind']}/{about['namespace']}/{about['name']}"


# logs


def run_logs(args: argparse.Namespace) -> int:
    """Print the log, from journald or from the daemon."""
    about, client = _about(args), client_of(args)
    try:
        state = client.get("/fos1/v1/status")
    except Unreachable as error:
        if shutil.which("journalctl") is None:
            raise
        note(f"fos1ctl: {error}; this is what the journal has")
        return _journal(about, "", args)
    if state["log"] == "journal":
        return _journal(about, state["node"], args)
    return _ring(client, about, args)


def _journal(about: ResourceId | None, node: str, args: argparse.Namespace) -> int:
    form = "json" if output_of(args) == "json" else "short-iso"
    command = ["journalctl", "--output", form, f"SYSLOG_IDENTIFIER={IDENTIFIER}"]
    command += [f"FOS1_NODE={node}"] if node else []
    if about:
        command += [f"FOS1_KIND={about.kind}", f"FOS1_NAMESPACE={about.namespace}"]
        command += [f"FOS1_NAME={about.name}"]
    elif args.namespace:
        command += [f"FOS1_NAMESPACE={args.namespace}"]
    return subprocess.run(
        [*command, *(["--follow"] if args.follow else [])], check=False
    ).returncode


def _ring(client: Client, about: ResourceId | None, args: argparse.Namespace) -> int:
    shown: dict[str, int] = {}
    while True:
        for event in _events(client, about, args):
            name, count = event["metadata"]["name"], event["count"]
            if shown.get(name) != count:
                shown[name] = count
                say(_log_line(event, output_of(args)))
        if not args.follow:
            return Exit.FINE
        time.sleep(POLL_S)


def _log_line(event: Json, output: str) -> str:
    if output == "json":
        import json

        return json.dumps(event, ensure_ascii=False)
    times = f" (x{event['count']})" if event["count"] > 1 else ""
    head = f"{event['lastTimestamp']} {event['type']:7} {event['reason']} {_object(event)}"
    return f"{head}: {plain(event['message'])}{times}"


# history


def run_history(args: argparse.Namespace) -> int:
    """Print the revisions as a table."""
    found = client_of(args).get("/fos1/v1/history")
    if output_of(args) == "json":
        say_json(found)
    elif found["items"]:
        say("\n".join(aligned(_history_rows(found["items"]), HISTORY)))
    else:
        note("No revision was tried yet")
    return Exit.FINE


HISTORY = ("Revision", "Time", "Result", "Ready", "Actions", "Author", "Subject")


def _history_rows(revisions: Sequence[Json]) -> Iterator[list[str]]:
    for revision in revisions:
        yield [
            short(revision["revision"]),
            revision["time"] or "-",
            revision["result"] or "-",
            f"{revision['ready']}/{revision['total']}",
            revision["actions"],
            revision["author"] or "-",
            " - ".join(text for text in (revision["subject"], revision["message"]) if text) or "-",
        ]
