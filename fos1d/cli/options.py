"""Options that several commands share, and how they are read."""

from __future__ import annotations

import argparse
from typing import Any

from fos1d.cli.client import Client, find_socket
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.words import DEFAULT_NAMESPACE


def add_words(parser: argparse.ArgumentParser, metavar: str, meaning: str) -> None:
    """Add the words that name kinds and resources; options may stand between them."""
    parser.add_argument("words", nargs="*", metavar=metavar, help=meaning)


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Add --socket."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help="the daemon's API; default: FOS1_SOCKET, else what the settings say",
    )


def add_output(parser: argparse.ArgumentParser, *formats: str) -> None:
    """Add -o."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORMAT",
        default=argparse.SUPPRESS,
        help=f"{' | '.join(formats)}; default: text",
    )
    parser.set_defaults(formats=formats)


def add_namespace(parser: argparse.ArgumentParser, all_of_them: bool = False) -> None:
    """Add -n and, if asked for, -A."""
    parser.add_argument("-n", "--namespace", metavar="NS", help="name space; default: default")
    if all_of_them:
        parser.add_argument(
            "-A", "--all-namespaces", action="store_true", help="resources of all name spaces"
        )


def client_of(args: argparse.Namespace) -> Client:
    """Return the client for the daemon that is meant."""
    return Client(find_socket(getattr(args, "socket", None)))


def output_of(args: argparse.Namespace) -> str:
    """Return the output format, "" for text. Raises Stop for one that the command has not."""
    chosen: str = getattr(args, "output", None) or ""
    formats: tuple[str, ...] = getattr(args, "formats", ())
    if chosen and chosen not in formats:
        known = ", ".join(formats)
        raise Stop(Exit.USAGE, f"-o {chosen}: this command knows {known or 'only text'}")
    return chosen


def namespace_of(args: argparse.Namespace) -> str:
    """Return the one name space that is meant."""
    return args.namespace or DEFAULT_NAMESPACE


def space_of(args: argparse.Namespace) -> str | None:
    """Return the name space that is meant, None for all."""
    return None if args.all_namespaces else namespace_of(args)


def with_query(**values: Any) -> dict[str, str]:
    """Return a query of the values that are not empty."""
    return {name: str(value) for name, value in values.items() if value not in (None, "", False)}
