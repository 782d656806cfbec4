"""`fos1ctl status`: one screen that says whether all is well, and what is not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fos1d.cli.exits import Exit
from fos1d.cli.options import add_output, add_socket, client_of, output_of
from fos1d.cli.terminal import aligned, count, fields, now_s, paint, plain, say, say_json
from fos1d.cli.words import DEFAULT_NAMESPACE
from fos1d.report.short import short
from fos1d.report.times import age_since

Json = Mapping[str, Any]
MOST_SHOWN = 20


def register(subparsers: Any) -> None:
    """Add `status` to fos1ctl."""
    parser = subparsers.add_parser(
        "status",
        help="show on one screen whether all is well",
        description="Show the source, the revision, counts, what is not Ready and why. Exits with 0"
        " if everything that the source asks for is Ready, with 1 otherwise.",
    )
    add_output(parser, "json")
    add_socket(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the screen."""
    state = client_of(args).get("/fos1/v1/status")
    if output_of(args) == "json":
        say_json(state)
    else:
        say("\n".join(screen(state)))
    return Exit.FINE if state["healthy"] else Exit.DIFFERS


def screen(state: Json) -> list[str]:
    """Return the lines of the screen."""
    parts = [
        fields(_head(state)),
        _counts(state["resources"]),
        _not_ready(_urgent_first(state["notReady"])),
        _findings(state["findings"]),
        _held(state["held"]),
        _verdict(state),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).splitlines()


def _head(state: Json) -> Iterator[tuple[str, str]]:
    source, now = state["source"], now_s()
    running = f"fos1d {state['version']}, process {state['pid']}"
    yield "Node", state["node"]
    yield "Daemon", f"{running}, up {age_since(state['startedAt'], now)}"
    yield "Source", source["place"] or "-"
    yield "Revision", _revision(source, now)
    if source["error"]:
        yield "Source error", source["error"]
    yield "Last pass", _last_pass(state["passes"], now)
    if state["passes"]["error"]:
        yield "Pass error", state["passes"]["error"]
    yield "Drift", f"{count(state['driftHealed'], 'object')} set right since the start"
    yield "Suspended", _suspended(state["suspended"])


def _revision(source: Json, now: float) -> str:
    if not source["revision"]:
        return "none was read yet"
    return f"{short(source['revision'])}, read {age_since(source['readAt'], now)} ago"


def _last_pass(passes: Json, now: float) -> str:
    if not passes["count"]:
        return "none is done yet"
    took = f"{passes['lastTookSeconds'] * 1000:.0f} ms"
    return f"{age_since(passes['lastAt'], now)} ago, took {took}; {passes['count']} since the start"


def _suspended(suspended: Json) -> str:
    if not suspended["suspended"]:
        return "no"
    until = suspended["until"]
    return f"yes, {f'until {until}' if until else 'until resumed'}: fos1ctl resume"


def _counts(resources: Json) -> list[str]:
    rows = [(kind, found["total"], found["ready"]) for kind, found in resources.items()]
    return aligned(rows, ("Kind", "Total", "Ready")) or ["No resources"]


def _urgent_first(late: Sequence[Json]) -> list[Json]:
    """Return what a person can mend first, and last what this version cannot do yet."""
    return sorted(late, key=lambda s: (s["reason"] == "NotSupportedYet", s["state"] != "Failed"))


def _not_ready(late: Sequence[Json]) -> list[str]:
    rows = [
        (
            f"{status['kind']}/{status['namespace']}/{status['name']}",
            status["state"],
            status["reason"],
            age_since(status["since"], now_s()),
            f"{status['origin']['path']}:{status['origin']['line']}",
        )
        for status in late[:MOST_SHOWN]
    ]
    lines = aligned(rows, ("Not Ready", "Status", "Reason", "Since", "Written in"))
    for row, status in enumerate(late[:MOST_SHOWN]):
        lines.insert(2 * row + 2, f"    {plain(status['message'])}")
    return lines + _more(late)


def _findings(findings: Sequence[Json]) -> list[str]:
    lines = ["Found in the manifests:"] if findings else []
    for found in findings[:MOST_SHOWN]:
        mark = "warning: " if found["severity"] == "warning" else ""
        place = f"{found['file']}:{found['line']}:{found['column']}"
        lines.append(plain(f"  {place} {found['path']} {mark}{found['message']}"))
    return lines + _more(findings)


def _held(held: Sequence[str]) -> list[str]:
    if not held:
        return []
    said = f"A revision that removes {count(len(held), 'resource')} waits for `fos1ctl confirm`:"
    return [said, *(f"  {identity}" for identity in held[:MOST_SHOWN]), *_more(held)]


def _more(found: Sequence[object]) -> list[str]:
    hidden = len(found) - MOST_SHOWN
    return [f"  … and {hidden} more: fos1ctl status -o json"] if hidden > 0 else []


def _verdict(state: Json) -> list[str]:
    total = sum(found["total"] for found in state["resources"].values())
    if not state["healthy"]:
        wrong = (f"  {complaint}" for complaint in _complaints(state, total))
        return [paint("Not all is well:", "red"), *wrong]
    if state["suspended"]["suspended"]:
        return [paint("All is well, but nothing would be set right: fos1ctl resume", "yellow")]
    return [paint(f"All is well: {count(total, 'resource')}, all Ready.", "green")]


def _complaints(state: Json, total: int) -> Iterator[str]:
    """Yield what is not well, each with what to do."""
    if not state["passes"]["count"]:
        yield "the first pass is not done yet: fos1ctl logs"
    if state["passes"]["error"]:
        yield "the last pass failed: fos1ctl logs"
    if state["source"]["error"]:
        yield "the source cannot be read: what was in force stays so"
    if state["held"]:
        yield "a revision waits: fos1ctl diff, then fos1ctl confirm"
    if any(finding["severity"] == "error" for finding in state["findings"]):
        yield "manifests are invalid: correct them, and push again"
    if late := _urgent_first(state["notReady"]):
        yield f"{len(late)} of {total} are not Ready: fos1ctl describe {_words_of(late[0])}"


def _words_of(status: Json) -> str:
    """Return the words that name a resource on the command line."""
    space = status["namespace"]
    where = "" if space == DEFAULT_NAMESPACE else f" -n {space}"
    return f"{status['kind']}/{status['name']}{where}"
