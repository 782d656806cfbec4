"""`fos1ctl schema`: JSON Schema of the kinds, for editors and CI."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fos1d.cli.options import add_output, output_of
from fos1d.kinds import find_kind, kind_words
from fos1d.kinds.schema import schema_of, schema_of_all
from fos1d.manifest import did_you_mean

FINE, USAGE = 0, 2


def register(subparsers: Any) -> None:
    """Add `schema` to fos1ctl."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of one kind, or of all",
        description="Print the JSON Schema (draft 2020-12) of one kind, or of all.",
    )
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="singular, plural or short name; default: all"
    )
    add_output(parser, "json")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    output_of(args)
    return run(args.kind)


def run(word: str | None = None) -> int:
    """Print the schema and return the exit code."""
    kind = find_kind(word) if word is not None else None
    if word is not None and kind is None:
        hint = did_you_mean(word, kind_words()) or f"; kinds: {', '.join(kind_words())}"
        print(f'fos1ctl: there is no kind "{word}"{hint}', file=sys.stderr)
        return USAGE
    schema = schema_of(kind) if kind is not None else schema_of_all()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return FINE
