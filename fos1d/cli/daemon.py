"""The command line of fos1d itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fos1d import __version__
from fos1d.cli.exits import Exit

_COMMANDS = {
    "run": "run until stopped, in the foreground; SIGHUP: pass now; SIGTERM: stop, the data path"
    " stays",
    "once": "make one pass; exits with 0 if everything is Ready, 1 if not, 3 if manifests are"
    " invalid",
    "purge": "remove every kernel object of ours, and nothing else",
}


def main() -> NoReturn:
    """Run fos1d and exit."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command line and return the exit code."""
    args = _parser().parse_args(words)
    from fos1d import start
    from fos1d.errors import Fos1Error, PermissionMissing, SettingsError
    from fos1d.settings import load

    commands = {"run": start.run, "once": start.once, "purge": start.purge}
    try:
        return commands[args.command](load(_config(args.config)))
    except SettingsError as error:
        return _stopped(error, Exit.USAGE)
    except PermissionMissing as error:
        return _stopped(error, Exit.REFUSED)
    except Fos1Error as error:
        return _stopped(error, Exit.DIFFERS)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fos1d", description="Keep the kernel as the manifests ask.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fos1d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, meaning in _COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        command.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            help="settings; default: FOS1_CONFIG, else /etc/fos1d/fos1d.toml",
        )
    return parser


def _config(named: Path | None) -> Path | None:
    if named is None and (from_environment := os.environ.get("FOS1_CONFIG")):
        return Path(from_environment)
    return named


def _stopped(error: Exception, code: Exit) -> int:
    print(f"fos1d: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
