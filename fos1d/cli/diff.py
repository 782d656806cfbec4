"""`fos1ctl diff`: what a pass would do to the live kernel. Changes nothing."""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fos1d.cli.client import Client, Unreachable
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import add_output, add_socket, client_of, output_of
from fos1d.cli.terminal import aligned, note, paint, plain, say, say_json
from fos1d.report.short import short

if TYPE_CHECKING:  # they bring pydantic along
    from fos1d.cli.collect import Collected
    from fos1d.model.snapshot import Snapshot

Json = Mapping[str, Any]
SIGNS = {"create": "+", "replace": "~", "delete": "-"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "red", "=": "yellow"}
PLAN_S = 120.0
MARGIN_S = 10.0


def register(subparsers: Any) -> None:
    """Add `diff` to fos1ctl."""
    parser = subparsers.add_parser(
        "diff",
        help="show what a pass would do; nothing is changed",
        description="Show what a pass would do to the live kernel, in order. Exits with 0 if"
        " nothing, 1 if something, 3 if manifests are invalid.",
    )
    parser.add_argument(
        "-f",
        "--file",
        dest="paths",
        action="extend",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="as if the source held these files and folders, and nothing else",
    )
    add_output(parser, "text", "json")
    add_socket(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    output = output_of(args)
    plan = _asked(client_of(args), args.paths)
    if output == "json":
        say_json(plan)
    else:
        for finding in plan["findings"]:
            note(finding_line(finding))
        if plan["valid"] or not args.paths:
            say("\n".join(plan_lines(plan, _name(plan, args.paths))))
    return _code(plan)


def _code(plan: Json) -> int:
    if not plan["valid"]:
        return Exit.INVALID
    differs = plan["actions"] or plan["conflicts"] or plan["held"]
    return Exit.DIFFERS if differs else Exit.FINE


# Asking


def _asked(client: Client, paths: Sequence[Path] | None) -> Json:
    collected = _collected(paths) if paths is not None else None
    try:
        plan = _posted(client, collected)
    except Unreachable:
        if os.geteuid() != 0:
            raise
        plan = _offline(paths)
    if collected is None:
        return plan
    return {**plan, "findings": [_as_given(collected, found) for found in plan["findings"]]}


def _collected(paths: Sequence[Path]) -> Collected:
    from fos1d.cli.collect import Unusable, collect

    try:
        return collect(list(paths))
    except (Unusable, OSError) as error:
        raise Stop(Exit.USAGE, str(error)) from error


def _posted(client: Client, collected: Collected | None) -> Json:
    query = {"timeoutSeconds": f"{PLAN_S:g}"}
    body = {"files": _encoded(collected.snapshot)} if collected is not None else None
    plan: Json = client.post("/fos1/v1/plan", query, body, PLAN_S + MARGIN_S)
    return plan


def _encoded(snapshot: Snapshot) -> dict[str, str]:
    try:
        return {
            path: base64.b64encode(blob.read()).decode() for path, blob in snapshot.blobs.items()
        }
    except OSError as error:
        raise Stop(Exit.USAGE, str(error)) from error


def _as_given(collected: Collected, finding: Json) -> Json:
    """Return a finding with its paths as the command line has them."""
    from fos1d.model.diagnostic import Diagnostic, Severity
    from fos1d.model.identity import Origin

    origin = Origin(finding["file"], finding["line"], finding["column"])
    severity = Severity(finding["severity"])
    known = Diagnostic(origin, finding["path"], finding["message"], severity)
    return {**collected.as_given(known).to_json(), "resource": finding["resource"]}


def _offline(paths: Sequence[Path] | None) -> Json:
    """Plan without the daemon: look at the kernel ourselves."""
    from fos1d.cli.offline import plan_offline
    from fos1d.errors import Fos1Error
    from fos1d.report.daemon_views import plan_of
    from fos1d.settings import load

    note("fos1ctl: no daemon answers; this looks at the kernel by itself")
    named = os.environ.get("FOS1_CONFIG")
    try:
        settings = load(Path(named) if named else None)
        return plan_of(plan_offline(None if paths is None else list(paths), settings))
    except Fos1Error as error:
        raise Stop(Exit.UNREACHABLE, f"no plan without the daemon: {error}") from error


# Saying


def finding_line(finding: Json) -> str:
    """Return a finding as `fos1ctl validate` prints it."""
    mark = "warning: " if finding["severity"] == "warning" else ""
    place = f"{finding['file']}:{finding['line']}:{finding['column']} {finding['path']}".rstrip()
    return plain(f"{place} {mark}{finding['message']}")


def _name(plan: Json, paths: Sequence[Path] | None) -> str:
    return " ".join(map(str, paths)) if paths else short(plan["revision"]) or "the source"


def plan_lines(plan: Json, name: str) -> list[str]:
    """Return a plan for people: a line for each action, in order, and what is left alone."""
    lines = [*_actions(plan["actions"]), *_left_alone(plan)]
    if not lines:
        return [f"no differences: the kernel is as {name} asks"]
    return [_summary(plan, name), "", *(_coloured(line) for line in lines)]


def _summary(plan: Json, name: str) -> str:
    found = [(n, f"to {verb} ({SIGNS[verb]})") for verb, n in plan["counts"].items()]
    found.append((len(plan["conflicts"]), "in the way (!)"))
    parts = [f"{number} {what}" for number, what in found if number]
    return f"plan for {name}: {', '.join(parts) or 'nothing to do'}"


def _actions(actions: Sequence[Json]) -> list[str]:
    rows = [
        (SIGNS[action["verb"]], _what(action), ", ".join(action["resources"]) or "no longer wanted")
        for action in actions
    ]
    return [line.replace("   ", " ", 1) for line in aligned(rows)]


def _what(action: Json) -> str:
    return str(action["text"]).removeprefix(f"{action['verb']} ")


def _left_alone(plan: Json) -> Iterator[str]:
    for conflict in plan["conflicts"]:
        yield f"! {plain(conflict)} is not ours and stays untouched; remove it to make way"
    for identity in plan["kept"]:
        yield f"= {identity} keeps its previous version: the new one is invalid"
    for identity in plan["held"]:
        yield f"= {identity} would be removed, with too many others: fos1ctl confirm lets it go"


def _coloured(line: str) -> str:
    return paint(line, _COLOURS[line[0]])
