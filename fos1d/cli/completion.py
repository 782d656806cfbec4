"""`fos1ctl completion bash`: commands and kinds, as fixed words."""

from __future__ import annotations

import argparse
from typing import Any

from fos1d.cli.exits import Exit
from fos1d.cli.terminal import say
from fos1d.cli.words import ALL, KINDS

_BASH = """\
_fos1ctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    case $before in
    -o|--output) COMPREPLY=($(compgen -W "wide yaml json name" -- "$word")) ;;
    -f|--file|--socket) COMPREPLY=($(compgen -f -- "$word")) ;;
    get|describe|events|logs|wait|schema)
        COMPREPLY=($(compgen -W "{kinds}" -- "$word")) ;;
    *) [ "$COMP_CWORD" -eq 1 ] && COMPREPLY=($(compgen -W "{commands}" -- "$word")) ;;
    esac
}}
complete -o default -F _fos1ctl fos1ctl"""


def register(subparsers: Any) -> None:
    """Add `completion` to fos1ctl."""
    parser = subparsers.add_parser("completion", help="print a shell's completion script")
    parser.add_argument("shell", choices=("bash",))
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the script, for `source <(fos1ctl completion bash)`."""
    from fos1d.cli.ctl import COMMANDS

    commands = " ".join(name for names in COMMANDS.values() for name in names if name != "hook")
    kinds = " ".join([*(kind.singular for kind in KINDS), ALL])
    say(_BASH.format(commands=commands, kinds=kinds))
    return Exit.FINE
