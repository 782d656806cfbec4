"""`fos1ctl reconcile`, `suspend`, `resume` and `confirm`: what the daemon is told to do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from fos1d.cli.client import Client
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import add_output, add_socket, client_of, output_of
from fos1d.cli.terminal import say, say_json
from fos1d.cli.words import seconds_of

Json = Mapping[str, Any]
Command = Callable[[Client, argparse.Namespace], tuple[Json, str]]
MARGIN_S = 10.0


def register(subparsers: Any) -> None:
    """Add the commands to fos1ctl."""
    reconcile = subparsers.add_parser("reconcile", help="make a pass now")
    reconcile.add_argument("--wait", action="store_true", help="return when the pass is done")
    reconcile.add_argument("--timeout", default="60s", help="how long to wait; default: 60s")
    suspend = subparsers.add_parser("suspend", help="make no passes; the data path stays as it is")
    suspend.add_argument("--for", dest="span", metavar="TIME", help="90s, 30m, 2h; default: no end")
    resume = subparsers.add_parser("resume", help="make passes again")
    confirm = subparsers.add_parser(
        "confirm", help="let the revision go on that waits for a person"
    )
    _complete(reconcile, _reconcile)
    _complete(suspend, _suspend)
    _complete(resume, _resume)
    _complete(confirm, _confirm)


def _complete(parser: argparse.ArgumentParser, command: Command) -> None:
    add_output(parser, "json")
    add_socket(parser)
    parser.set_defaults(func=lambda args: _run(args, command))


def _run(args: argparse.Namespace, command: Command) -> int:
    output = output_of(args)
    state, said = command(client_of(args), args)
    if output == "json":
        say_json(state)
    else:
        say(said)
    return Exit.FINE


def _reconcile(client: Client, args: argparse.Namespace) -> tuple[Json, str]:
    timeout_s = seconds_of(args.timeout)
    query = {"wait": str(args.wait).lower(), "timeoutSeconds": f"{timeout_s:g}"}
    state = client.post("/fos1/v1/reconcile", query, timeout_s=timeout_s + MARGIN_S)
    if not args.wait:
        return state, "a pass is on its way: fos1ctl status"
    if error := state["passes"]["error"]:
        raise Stop(Exit.DIFFERS, f"the pass failed: {error}")
    return state, state["summary"]


def _suspend(client: Client, args: argparse.Namespace) -> tuple[Json, str]:
    query = {}
    if args.span is not None:
        if not (seconds := seconds_of(args.span)):
            raise Stop(Exit.USAGE, "--for must be longer than nothing; fos1ctl resume ends it")
        query["seconds"] = f"{seconds:g}"
    state = client.post("/fos1/v1/suspend", query)
    until = state["suspended"].get("until")
    end = f"until {until}, or until" if until else "until"
    return state, f"no passes are made {end} `fos1ctl resume`; the data path stays as it is"


def _resume(client: Client, args: argparse.Namespace) -> tuple[Json, str]:
    return client.post("/fos1/v1/resume"), "passes are made again, beginning now"


def _confirm(client: Client, args: argparse.Namespace) -> tuple[Json, str]:
    return client.post("/fos1/v1/confirm"), "the revision goes on: fos1ctl status"
