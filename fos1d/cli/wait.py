"""`fos1ctl wait`: return when a resource is as it should be, or gone."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fos1d.cli.client import Client, collection
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
from fos1d.cli.terminal import complain, say, say_json
from fos1d.cli.words import KindWords, seconds_of, targets_of

Json = Mapping[str, Any]
_CONDITION = re.compile(r"condition=(?P<type>[A-Za-z]+)(=(?P<status>True|False|Unknown))?", re.I)


def register(subparsers: Any) -> None:
    """Add `wait` to fos1ctl."""
    parser = subparsers.add_parser(
        "wait",
        help="wait for a condition",
        description="Wait until resources are as they should be. One that is not there yet is"
        " waited for, too. Exits with 1 if that takes longer than the timeout.",
    )
    add_words(parser, "KIND/NAME", "the resources")
    parser.add_argument(
        "--for",
        dest="until",
        metavar="WHAT",
        required=True,
        help="condition=Ready, condition=TYPE=False, or delete",
    )
    parser.add_argument("--timeout", default="60s", help="for all of it; default: 60s")
    add_namespace(parser)
    add_output(parser, "json")
    add_socket(parser)
    parser.set_defaults(func=run)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for: `met` is asked of the resource, or of None where there is none."""

    said: str
    met: Callable[[Json | None], bool]


def run(args: argparse.Namespace) -> int:
    """Wait for each resource, all within one timeout."""
    goal, deadline = goal_of(args.until), time.monotonic() + seconds_of(args.timeout)
    client, space, output = client_of(args), namespace_of(args), output_of(args)
    targets = targets_of(args.words)
    if any(not target.names for target in targets):
        raise Stop(Exit.USAGE, "name the resources to wait for: KIND/NAME")
    code, found = Exit.FINE, []
    for kind, name in [(target.kind, name) for target in targets for name in target.names]:
        met, last = _wait(client, collection(kind.plural, space), name, goal, deadline)
        found.append({"resource": f"{kind.name}/{space}/{name}", "met": met})
        if not met:
            code = Exit.DIFFERS
            complain(_late(kind, space, name, goal, last))
        elif output != "json":
            say(f"{kind.qualified}/{name} {goal.said}")
    if output == "json":
        say_json({"for": args.until, "met": code is Exit.FINE, "resources": found})
    return code


def goal_of(text: str) -> Goal:
    """Return what --for means. Raises Stop."""
    if text.lower() == "delete":
        return Goal("deleted", lambda resource: resource is None)
    match = _CONDITION.fullmatch(text)
    if match is None:
        known = "condition=Ready, condition=TYPE=False, or delete"
        raise Stop(Exit.USAGE, f"--for {text}: must be {known}")
    wanted_type, wanted = match["type"].lower(), (match["status"] or "True").lower()

    def met(resource: Json | None) -> bool:
        conditions = resource["status"]["conditions"] if resource else []
        return any(
            (c["type"].lower(), c["status"].lower()) == (wanted_type, wanted) for c in conditions
        )

    return Goal("condition met", met)


def _wait(
    client: Client, path: str, name: str, goal: Goal, deadline: float
) -> tuple[bool, Json | None]:
    """Return whether the goal was met in time, and the resource as it was last."""
    only = {"fieldSelector": f"metadata.name={name}"}
    listed = client.get(path, only)
    last: Json | None = next(iter(listed["items"]), None)
    version = listed["metadata"]["resourceVersion"]
    while not goal.met(last):
        if (left_s := deadline - time.monotonic()) <= 0:
            return False, last
        for event in client.watch(path, {**only, "resourceVersion": version}, timeout_s=left_s):
            version = event["object"]["metadata"]["resourceVersion"]
            last = None if event["type"] == "DELETED" else event["object"]
            if goal.met(last):
                break
    return True, last


def _late(kind: KindWords, space: str, name: str, goal: Goal, last: Json | None) -> str:
    who = f"timed out: {kind.name}/{space}/{name}"
    if last is None:
        return f"{who} is not there: fos1ctl status says which revision was read"
    status = last["status"]
    origin = f"{status['origin']['path']}:{status['origin']['line']}"
    ready = "" if goal.said == "deleted" else f": {status['reason']}: {status['message']}"
    return f"{who} is {status['state']}{ready} ({origin})"
