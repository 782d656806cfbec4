"""fos1ctl: looks at the daemon and tells it what to do, with kubectl's habits.

A command's module is imported only when its word is on the command line: some take long.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fos1d import __version__
from fos1d.cli.exits import Exit, Stop

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "get": {"get": "show resources"},
    "describe": {"describe": "show all that is known of a resource"},
    "status": {"status": "show on one screen whether all is well"},
    "validate": {"validate": "check manifests; offline, without root and without the daemon"},
    "diff": {"diff": "show what a pass would do; nothing is changed"},
    "orders": {
        "reconcile": "make a pass now",
        "suspend": "make no passes; the data path stays as it is",
        "resume": "make passes again",
        "confirm": "let the revision go on that waits for a person",
    },
    "wait": {"wait": "wait for a condition"},
    "recent": {
        "events": "show what happened, oldest first",
        "logs": "show the log: journald where there is one, the daemon's memory otherwise",
        "history": "show the revisions, newest first",
    },
    "schema": {"schema": "print the JSON Schema of one kind, or of all"},
    "repo": {"repo": "the Git repository that operators push to", "hook": ""},
    "completion": {"completion": "print a shell's completion script"},
    "explain": {"explain": "say what the loaded programs do to a packet, and why"},
    "nat": {"nat": "show or forget sessions and bindings of address translation"},
    "later": {"rollback": "not in this version"},
}
"""The modules of fos1d.cli, and the commands that each registers, with their help."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(Exit.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main() -> NoReturn:
    """Run fos1ctl and exit."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command line and return the exit code."""
    args = parse(words)
    try:
        return int(args.func(args))
    except Stop as stop:
        print(f"fos1ctl: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FINE


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; exits where it is wrong.

    Words may stand among the options, as kubectl allows: `get ebpfmap -n lab blacklist`.
    """
    parser = make_parser(words)
    args, rest = parser.parse_known_args(words)
    if hasattr(args, "takes_anything"):
        return args
    if any(word.startswith("-") for word in rest) or (rest and not hasattr(args, "words")):
        parser.error(f"{args.command}: unrecognized: {' '.join(rest)}")
    if rest:
        args.words = [*args.words, *rest]
    return args


def make_parser(words: Sequence[str]) -> Parser:
    """Return a parser that knows the commands among `words`, and of the others their names."""
    parser = Parser(
        prog="fos1ctl",
        description="Look at fos1d, and tell it what to do.",
        epilog="Exit codes: 0 fine; 1 differences, a condition not reached, not all Ready, no such"
        " resource; 2 usage; 3 invalid manifests; 4 the daemon cannot be reached; 5 refused.",
    )
    parser.add_argument("--version", action="version", version=f"fos1ctl {__version__}")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's API; default: FOS1_SOCKET")
    parser.add_argument("-o", "--output", metavar="FORMAT", help="json: for programs")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module, names in COMMANDS.items():
        if any(name in words for name in names):
            importlib.import_module(f"fos1d.cli.{module}").register(commands)
            continue
        for name, meaning in names.items():
            _add_name(commands, name, meaning)
    return parser


def _add_name(commands: Any, name: str, meaning: str) -> None:
    if meaning:
        commands.add_parser(name, help=meaning)
    else:
        commands.add_parser(name)


if __name__ == "__main__":
    main()
