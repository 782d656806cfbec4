"""`fos1ctl nat list` and `nat flush`: sessions and bindings of address translation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import add_output, add_socket, client_of, output_of
from fos1d.cli.terminal import aligned, complain, say, say_json

Json = Mapping[str, Any]
TIMEOUT_S = 70.0
NONE = "-"
FILTERS = {
    "policy": ("policy", "NAME", "the policy, or NAMESPACE/NAME"),
    "interface": ("interface", "IFACE", "the outside interface"),
    "proto": ("protocol", "NAME", "tcp, udp, icmp, …, or a number"),
    "inside": ("inside", "A[:P]", "the end inside: an address or a network, a port"),
    "outside": ("outside", "A[:P]", "the end that others see"),
    "far": ("far", "A[:P]", "the end that the inside talks to"),
}


def register(subparsers: Any) -> None:
    """Add `nat` to fos1ctl."""
    parser = subparsers.add_parser(
        "nat", help="show or forget sessions and bindings of address translation"
    )
    commands = parser.add_subparsers(dest="nat_command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="show sessions and bindings")
    listing.add_argument(
        "--limit", type=int, default=1000, metavar="N", help="how many of each; default: 1000"
    )
    flushing = commands.add_parser("flush", help="forget sessions and bindings")
    flushing.add_argument("--all", action="store_true", help="forget all of them")
    for command, run in ((listing, run_list), (flushing, run_flush)):
        for option, (_, metavar, meaning) in FILTERS.items():
            command.add_argument(f"--{option}", default="", metavar=metavar, help=meaning)
        add_output(command, "json")
        add_socket(command)
        command.set_defaults(func=run)


def run_list(args: argparse.Namespace) -> int:
    """Print sessions and bindings."""
    output, client = output_of(args), client_of(args)
    answer = client.get("/fos1/v1/nat", {**_chosen(args), "limit": str(args.limit)})
    if output == "json":
        say_json(answer)
        return Exit.FINE
    say("\n".join(lines_of(answer)))
    for what in ("session", "binding"):
        more = answer[f"{what}Count"] - len(answer[f"{what}s"])
        if more > 0:
            complain(f"and {more} more {what}s: --limit")
    return Exit.FINE


def run_flush(args: argparse.Namespace) -> int:
    """Have sessions and bindings forgotten."""
    output, chosen = output_of(args), _chosen(args)
    if bool(chosen) == args.all:
        raise Stop(Exit.USAGE, "nat flush: say which, or --all")
    body = {"all": True} if args.all else chosen
    answer = client_of(args).post("/fos1/v1/nat/flush", {}, body, TIMEOUT_S)
    if output == "json":
        say_json(answer)
    else:
        say(f"{answer['sessionCount']} sessions and {answer['bindingCount']} bindings forgotten")
    return Exit.FINE


def _chosen(args: argparse.Namespace) -> dict[str, str]:
    found = {name: getattr(args, option) for option, (name, _, _) in FILTERS.items()}
    return {name: value for name, value in found.items() if value}


def lines_of(answer: Json) -> Iterator[str]:
    """Yield the two tables."""
    sessions = [_session(one) for one in answer["sessions"]]
    yield f"Sessions: {answer['sessionCount']}"
    yield from _table(sessions, ("Proto", "Inside", "Outside", "Far", "State", "Ends", "Policy"))
    bindings = [_binding(one) for one in answer["bindings"]]
    yield f"Bindings: {answer['bindingCount']}"
    yield from _table(bindings, ("Proto", "Inside", "Outside", "Ends", "Policy"))


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    return aligned(rows, header, "  ") if rows else []


def _session(one: Json) -> list[str]:
    state = one["state"] + (" (hairpin)" if one["hairpin"] else "")
    return [*_ends(one), one["far"]["text"], state, f"{one['expiresInSeconds']}s", _policy(one)]


def _binding(one: Json) -> list[str]:
    protocol, inside, outside = _ends(one)
    inside = "(the router)" if one["routersOwn"] else inside
    return [protocol, inside, outside, f"{one['expiresInSeconds']}s", _policy(one)]


def _ends(one: Json) -> list[str]:
    return [one["protocol"], one["inside"]["text"], one["outside"]["text"]]


def _policy(one: Json) -> str:
    return one["policy"].partition("/")[2] or NONE
