"""`fos1ctl validate`: every error of manifests at once, offline, without root and daemon."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from fos1d.cli.collect import Collected, Unusable, collect
from fos1d.cli.progress import ProgressBar
from fos1d.kinds.validate import Validated, parse_blob, validate
from fos1d.model.diagnostic import Severity

FINE, USAGE, INVALID = 0, 2, 3


def register(subparsers: Any) -> None:
    """Add `validate` to fos1ctl."""
    parser = subparsers.add_parser(
        "validate",
        help="check manifests; offline, without root and without the daemon",
        description="Check manifests and print every error at once as `file:line:column path"
        " message`. Exits with 0 where all are valid, with 3 otherwise.",
    )
    parser.add_argument(
        "-f",
        "--file",
        dest="paths",
        action="extend",
        nargs="+",
        type=Path,
        required=True,
        metavar="PATH",
        help="manifest files, or folders with all *.yaml and *.yml below them",
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="default: text"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="where the paths of address lists count from; by default the folder that is named,"
        " or the repository that the files are in",
    )
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    return run(args.paths, args.output, args.root)


def run(
    paths: list[Path], output: Literal["text", "json"] = "text", root: Path | None = None
) -> int:
    """Validate the files and folders, print the findings, and return the exit code."""
    bar = ProgressBar("manifests")
    try:
        collected = collect(paths, root)
    except (Unusable, OSError) as error:
        print(f"fos1ctl: {error}", file=sys.stderr)
        return USAGE
    parsed = collected.parsed
    result = validate(
        collected.snapshot, bar, lambda blob: parsed.get(blob.path) or parse_blob(blob)
    )
    bar.clear()
    if output == "json":
        print(as_json(collected, result))
    else:
        for finding in result.findings:
            print(collected.as_given(finding))
        sys.stdout.flush()
        print(summary(collected, result), file=sys.stderr)
    return FINE if result.valid else INVALID


def as_json(collected: Collected, result: Validated) -> str:
    """Return the whole outcome as one JSON object."""
    outcome = {
        "valid": result.valid,
        "files": len(collected.snapshot.manifests()),
        "resources": result.declared,
        "findings": [collected.as_given(finding).to_json() for finding in result.findings],
    }
    return json.dumps(outcome, indent=2, ensure_ascii=False)


def summary(collected: Collected, result: Validated) -> str:
    """Return one line that counts what was read and what was found."""
    counts = Counter(finding.severity for finding in result.findings)
    read = f"{_count(len(collected.snapshot.manifests()), 'file')}, "
    read += _count(result.declared, "resource")
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    outcome = _count(errors, "error") if errors else "valid"
    return f"{read}: {outcome}" + (f", {_count(warnings, 'warning')}" if warnings else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
