"""`fos1ctl explain`: what the loaded programs do to a packet, and which rule decides."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import add_output, add_socket, client_of, output_of
from fos1d.cli.terminal import aligned, plain, say, say_json
from fos1d.model.packet import ICMPS, PROTOCOLS

Json = Mapping[str, Any]
TIMEOUT_S = 70.0
OPTIONS = ("--in", "--out", "--workload")


def register(subparsers: Any) -> None:
    """Add `explain` to fos1ctl."""
    parser = subparsers.add_parser(
        "explain",
        help="say what the loaded programs do to a packet, and why",
        epilog="The programs are run on the packet (BPF_PROG_TEST_RUN) with counters and flows of"
        " their own: nothing is changed, and rate limits count from zero.",
    )
    parser.add_argument("--in", dest="comes_in", metavar="IFACE", help="where it comes in")
    parser.add_argument("--out", dest="goes_out", metavar="IFACE", help="where it leaves")
    parser.add_argument("--workload", metavar="NAME", help="whose it is, instead")
    parser.add_argument("--proto", metavar="NAME", help=" | ".join(PROTOCOLS))
    parser.add_argument("--src", metavar="A:P", help="source address and port, [A]:P for IPv6")
    parser.add_argument("--dst", metavar="B:P", help="destination address and port")
    parser.add_argument("--icmp-type", type=int, metavar="N", help="default: an echo request")
    parser.add_argument(
        "--established", action="store_true", help="an answer: the other end has opened this"
    )
    add_output(parser, "json")
    add_socket(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Ask the daemon and print its answer."""
    output, question = output_of(args), question_of(args)
    answer = client_of(args).post("/fos1/v1/explain", {}, question, TIMEOUT_S)
    if output == "json":
        say_json(answer)
    else:
        say("\n".join(lines_of(answer)))
    return Exit.FINE


# The question


def question_of(args: argparse.Namespace) -> dict[str, object]:
    """Return the question as the API wants it. Raises Stop for one that makes no sense."""
    places = {"in": args.comes_in, "out": args.goes_out, "workload": args.workload}
    chosen = {name: value for name, value in places.items() if value}
    if not chosen or ("workload" in chosen and len(chosen) > 1):
        raise Stop(Exit.USAGE, f"explain: say where, by {', '.join(OPTIONS)}")
    if not (args.proto and args.src and args.dst):
        raise Stop(Exit.USAGE, "explain: describe the packet by --proto, --src and --dst")
    if args.proto not in PROTOCOLS:
        raise Stop(Exit.USAGE, f"--proto {args.proto}: it can be {', '.join(PROTOCOLS)}")
    return {
        **chosen,
        "protocol": args.proto,
        **_ends(args, PROTOCOLS[args.proto] not in ICMPS),
        **({} if args.icmp_type is None else {"icmp_type": args.icmp_type}),
        **({"established": True} if args.established else {}),
    }


def _ends(args: argparse.Namespace, with_ports: bool) -> dict[str, object]:
    ends: dict[str, object] = {}
    for option, name in (("src", "source"), ("dst", "dest")):
        address, port = end_of(f"--{option}", getattr(args, option), with_ports)
        ends[name] = address
        if port is not None:
            ends[f"{name}_port"] = port
    return ends


def end_of(option: str, text: str, with_port: bool) -> tuple[str, int | None]:
    """Read `192.0.2.1:80`, `[2001:db8::1]:80`, or without ports an address alone."""
    address, port = (text, "") if not with_port else text.rpartition(":")[::2]
    bare = address.removeprefix("[").removesuffix("]")
    try:
        if with_port and (":" in bare) != (bare != address):
            raise ValueError
        return str(ip_address(bare)), int(port) if with_port else None
    except ValueError:
        form = "ADDRESS:PORT, or [ADDRESS]:PORT for IPv6" if with_port else "an address"
        raise Stop(Exit.USAGE, f"{option} {text}: it must be {form}") from None


# The answer


def lines_of(answer: Json) -> Iterator[str]:
    """Yield the answer for people."""
    kind = "an answer in an open connection" if answer["established"] else "a new connection"
    yield f"{plain(answer['packet']['text'])} ({kind})"
    for remark in answer["remarks"]:
        yield f"  {plain(remark)}"
    steps = [_cells(step) for step in answer["steps"]]
    for line, step in zip(aligned(steps), answer["steps"], strict=True):
        yield f"  {line}"
        yield from (f"      {plain(why)}" for why in _reasons(step))
    yield answer["verdict"]


def _cells(step: Json) -> list[str]:
    return [step["hook"], step["place"], step["program"], step["verdict"], step["reason"]]


def _reasons(step: Json) -> Iterator[str]:
    for rule in step["rules"]:
        about = f" ({rule['description']})" if rule["description"] else ""
        name = f"{rule['direction']}[{rule['index']}]"
        yield f"{rule['action']} by {name}{about} of {rule['resource']}, {rule['origin']}"
    for policy in step["deniedByDefaultOf"]:
        yield f"allowed by no rule; denied by default: {policy['resource']}, {policy['origin']}"
