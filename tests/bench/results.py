"""Figures as values: tables with bars, printed, kept as JSON, and written into the document."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.objects import BUILD

DOCUMENT = Path(__file__).parents[2] / "docs" / "design" / "performance.md"
PICTURE_COLUMNS = 50
LATEST = BUILD / "latest.json"


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold: `value` at most `limit`."""

    what: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.what}: {self.value:.2f}, at most {self.limit:g}: {verdict}"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured. `n` is its size as people say it, `ratio` is to the yardstick
    that the table names; `more` are further figures, by the table's columns."""

    what: str
    n: str
    value: float
    ratio: float | None = None
    more: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The outcome of one benchmark. `unit` is that of `value`; `notes` are sentences."""

    name: str
    title: str
    unit: str
    yardstick: str
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()


def tick(mark: str = ".") -> None:
    """Show on the terminal that a round is over."""
    print(mark, end="", file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> str:
    """Return how far apart rounds were: the least and the most of them."""
    return f"{shown(min(values))}-{shown(max(values))}"


def shown(value: float | str | None) -> str:
    """Return a figure with three digits that matter."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def middle(values: Sequence[float]) -> float:
    """Return the median of rounds."""
    return float(median(values))


def columns_of(table: Table) -> list[str]:
    """Return the heads of a table's columns."""
    more = dict.fromkeys(name for row in table.rows for name in row.more)
    ratio = [f"to {table.yardstick}"] if any(row.ratio is not None for row in table.rows) else []
    return ["what", "n", table.unit, *ratio, *more]


def cells_of(table: Table) -> list[list[str]]:
    """Return a table's rows as text."""
    heads = columns_of(table)
    has_ratio = f"to {table.yardstick}" in heads
    more = heads[4 if has_ratio else 3 :]
    return [
        [
            row.what,
            row.n,
            shown(row.value),
            *([f"{row.ratio:.2f}" if row.ratio is not None else ""] if has_ratio else []),
            *(shown(row.more.get(name)) for name in more),
        ]
        for row in table.rows
    ]


def printed(table: Table) -> str:
    """Return a table for a terminal."""
    rows = [columns_of(table), *cells_of(table)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"== {table.title}"]
    for row in rows:
        aligned = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    lines += [f"   {bar}" for bar in table.bars]
    lines += [f"   {note}" for note in table.notes]
    return "\n".join(lines)


def bars_drawn(table: Table) -> str:
    """Return a picture of a table's values for a terminal, one line a row, a scale for each n."""
    most: dict[str, float] = {}
    for row in table.rows:
        most[row.n] = max(most.get(row.n, 0.0), 0.0 if isnan(row.value) else row.value)
    width = max((len(row.what) + len(row.n) for row in table.rows), default=0) + 2
    return "\n".join(_drawn(row, most[row.n], width) for row in table.rows)


def _drawn(row: Row, most: float, width: int) -> str:
    label = f"{row.what}  {row.n}".ljust(width)
    length = 0 if isnan(row.value) or not most else round(PICTURE_COLUMNS * row.value / most)
    return f"   {label} {'█' * length}{'' if length else '▏'} {shown(row.value)}"


def markdown(table: Table, where: str) -> str:
    """Return a table for the document; `where` says when and on what it was measured."""
    heads = columns_of(table)
    lines = [f"*{where}*", "", f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    lines += [f"| {' | '.join(cells)} |" for cells in cells_of(table)]
    if table.bars:
        lines += ["", *(f"- {'✓' if bar.holds else '✗'} {bar}" for bar in table.bars)]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines)


def circumstances(quick: bool) -> dict[str, str]:
    """Return when and where this runs."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "cpu": f"{len(models)} x {models[0] if models else platform.machine()}",
        "python": platform.python_version(),
        "rounds": "quick" if quick else "full",
        "load": f"{os.getloadavg()[1]:.1f}",
    }


def keep(table: Table, quick: bool) -> None:
    """Put a table into build/bench/latest.json, and a full one into the document."""
    found: dict[str, Any] = json.loads(LATEST.read_text()) if LATEST.exists() else {}
    where = circumstances(quick)
    bars = [{**asdict(bar), "holds": bar.holds} for bar in table.bars]
    found[table.name] = {**asdict(table), "bars": bars, "where": where}
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps(found, indent=1, default=str) + "\n")
    if not quick:
        _write_document(table, ", ".join(_words(where)))


def _words(where: Mapping[str, str]) -> Iterator[str]:
    yield from (where["date"], f"Linux {where['kernel']}", where["cpu"])
    yield f"load average at the end {where['load']}"


def _write_document(table: Table, where: str) -> None:
    """Write a table between its markers, if the document has them."""
    if not DOCUMENT.exists():
        return
    begin, end = f"<!-- bench {table.name} -->", f"<!-- end {table.name} -->"
    text = DOCUMENT.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    DOCUMENT.write_text(pattern.sub(lambda _: f"{begin}\n{markdown(table, where)}\n{end}", text))
