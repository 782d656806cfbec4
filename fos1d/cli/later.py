"""Commands whose names are taken and whose work is still to come."""

from __future__ import annotations

import argparse
from typing import Any

from fos1d.cli.exits import Exit, Stop


def register(subparsers: Any) -> None:
    """Add `rollback` to fos1ctl."""
    rollback = subparsers.add_parser("rollback", help="not in this version")
    instead = "push the earlier revision instead: git revert, git push"
    rollback.set_defaults(func=run, instead=instead, takes_anything=True)


def run(args: argparse.Namespace) -> int:
    """Say that it is not there, and what to do instead."""
    raise Stop(Exit.USAGE, f"{args.command} is not in this version; {args.instead}")
