"""What goes to the terminal: aligned tables, colours where they are wanted, JSON and YAML."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

GAP = 3
_COLOURS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}
_TRUTH = {"True": "green", "False": "red", "Unknown": "yellow"}


clock = time.time


def now_s() -> float:
    """Return the time in Unix seconds."""
    return clock()


def colours(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal, and never with NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return `text` in a colour, if colours are wanted."""
    wanted = colours(stream or sys.stdout)
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wanted else text


def say(text: str) -> None:
    """Print to standard output, at once."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Print one line to standard error."""
    print(f"fos1ctl: {text}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print to standard error what is beside the point of the command."""
    print(text, file=sys.stderr, flush=True)


def say_json(content: object) -> None:
    """Print JSON."""
    say(json.dumps(content, indent=2, ensure_ascii=False))


def say_yaml(content: object) -> None:
    """Print YAML."""
    say(as_yaml(content).rstrip("\n"))


def as_yaml(content: object) -> str:
    """Return YAML, in the order of the fields."""
    import yaml

    text: str = yaml.dump(
        content,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=1000,
    )
    return text


def aligned(
    rows: Iterable[Sequence[object]], header: Sequence[str] | None = None, indent: str = ""
) -> list[str]:
    """Return the lines of a table, its header first; none if there are no rows."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        return []
    whole = [[name.upper() for name in header], *cells] if header else cells
    widths = widths_of(whole)
    return [indent + row_line(row, widths) for row in whole]


def widths_of(rows: Iterable[Sequence[str]]) -> list[int]:
    """Return how wide each column must be."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "\ufffd") | {9: " ", 10: " ", 13: " "}


def plain(text: object) -> str:
    """Return text on one line, without what could steer a terminal."""
    return str(text).translate(_CONTROLS).rstrip()


def row_line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return one line of a table."""
    padded = [
        _coloured(cell) + " " * (width - len(cell) + GAP)
        for cell, width in zip(row[:-1], widths, strict=False)
    ]
    return "".join([*padded, _coloured(row[-1])]).rstrip()


def _coloured(cell: str) -> str:
    return paint(cell, _TRUTH[cell]) if cell in _TRUTH else cell


def fields(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    """Return `Name:   value` lines, aligned."""
    named = [(f"{name}:", plain(value)) for name, value in pairs]
    width = max((len(name) for name, _ in named), default=0) + 2
    return [f"{name:{width}}{value}".rstrip() for name, value in named]


def count(number: int, what: str) -> str:
    """Return `1 file`, `2 files`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
