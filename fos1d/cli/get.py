"""`fos1ctl get`: resources as tables, YAML, JSON or names; with -w, as they change."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fos1d.cli.client import TABLE, Client, Refused, collection
from fos1d.cli.exits import Exit, Stop
from fos1d.cli.options import (
    add_namespace,
    add_output,
    add_socket,
    add_words,
    client_of,
    output_of,
    space_of,
    with_query,
)
from fos1d.cli.terminal import (
    aligned,
    complain,
    note,
    plain,
    row_line,
    say,
    say_json,
    say_yaml,
    widths_of,
)
from fos1d.cli.words import KindWords, Target, targets_of

OUTPUTS = ("wide", "yaml", "json", "name")
WATCH_S = 3600.0


def register(subparsers: Any) -> None:
    """Add `get` to fos1ctl."""
    parser = subparsers.add_parser(
        "get",
        help="show resources",
        description="Show resources: `get KIND`, `get KIND NAME…`, `get KIND/NAME…`, `get all`."
        " A kind is written in singular, plural or as its short name, in any case.",
    )
    add_words(parser, "KIND[/NAME]", "a kind, kinds joined by commas, `all`, or resources")
    add_namespace(parser, all_of_them=True)
    parser.add_argument("-l", "--selector", metavar="LABELS", help="a=b,c!=d,e in (f,g),h,!i")
    parser.add_argument("-w", "--watch", action="store_true", help="show changes as they come")
    add_output(parser, *OUTPUTS)
    add_socket(parser)
    parser.set_defaults(func=run)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show, and how. `space` None means all name spaces."""

    targets: Sequence[Target]
    space: str | None
    selector: str
    output: str

    @property
    def is_table(self) -> bool:
        """Whether people read it."""
        return self.output in ("", "wide")

    @property
    def query(self) -> dict[str, str]:
        """The query for a list: the kernel is asked where the output has room for the answer."""
        details = self.output not in ("", "name")
        return with_query(labelSelector=self.selector, details="true" if details else "")

    @property
    def prefixed(self) -> bool:
        """Whether names need their kind before them."""
        return len({target.kind for target in self.targets}) > 1


def run(args: argparse.Namespace) -> int:
    """Show what is asked for."""
    wanted = Wanted(targets_of(args.words), space_of(args), args.selector or "", output_of(args))
    named = any(target.names for target in wanted.targets)
    if named and wanted.space is None:
        raise Stop(Exit.USAGE, "a name is looked up in one name space: -n NS instead of -A")
    if named and wanted.selector:
        raise Stop(Exit.USAGE, "-l selects among all resources of a kind: leave the names out")
    client = client_of(args)
    return _watch(client, wanted) if args.watch else _show(client, wanted)


def _show(client: Client, wanted: Wanted) -> int:
    missing: list[str] = []
    if wanted.is_table:
        tables = [_table(client, target, wanted, missing) for target in wanted.targets]
        shown = [table for table in tables if table["rows"]]
        say_tables(shown, wanted)
    else:
        shown = _objects(client, wanted, missing)
        _say_objects(shown, wanted)
    for message in missing:
        complain(message)
    if not shown and not missing:
        _say_nothing(client, wanted)
    return Exit.DIFFERS if missing else Exit.FINE


def _each(
    client: Client, target: Target, wanted: Wanted, accept: str, missing: list[str]
) -> Iterator[Any]:
    """Yield the answers for a target: one for all of a kind, or one for each name."""
    plural = target.kind.plural
    if not target.names:
        yield client.get(collection(plural, wanted.space), wanted.query, accept)
    for name in target.names:
        try:
            yield client.get(collection(plural, wanted.space, name), {}, accept)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            missing.append(str(refusal))


def _table(client: Client, target: Target, wanted: Wanted, missing: list[str]) -> dict[str, Any]:
    whole: dict[str, Any] = {"kind": target.kind, "columns": [], "rows": []}
    for table in _each(client, target, wanted, TABLE, missing):
        whole["columns"] = table["columnDefinitions"]
        whole["rows"] += table["rows"]
    return whole


def say_tables(tables: Sequence[Mapping[str, Any]], wanted: Wanted) -> None:
    """Print tables, an empty line between them."""
    for number, table in enumerate(tables):
        header, rows = (
            header_of(table, wanted),
            [_cells(row, table, wanted) for row in table["rows"]],
        )
        say("\n".join([*([""] if number else []), *aligned(rows, header)]))


def header_of(table: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Return the names of the columns that are shown."""
    names = [c["name"] for c in table["columns"] if _is_shown(c, wanted)]
    return ["Namespace", *names] if wanted.space is None else names


def _cells(row: Mapping[str, Any], table: Mapping[str, Any], wanted: Wanted) -> list[str]:
    shown = [
        plain(cell)
        for cell, column in zip(row["cells"], table["columns"], strict=True)
        if _is_shown(column, wanted)
    ]
    if wanted.prefixed:
        shown[0] = f"{table['kind'].singular}/{shown[0]}"
    return [row["object"]["metadata"]["namespace"], *shown] if wanted.space is None else shown


def _is_shown(column: Mapping[str, Any], wanted: Wanted) -> bool:
    return not column["priority"] or wanted.output == "wide"


def _objects(client: Client, wanted: Wanted, missing: list[str]) -> list[dict[str, Any]]:
    return [
        found
        for target in wanted.targets
        for answer in _each(client, target, wanted, "application/json", missing)
        for found in answer.get("items", [answer])
    ]


def _say_objects(found: Sequence[dict[str, Any]], wanted: Wanted) -> None:
    if wanted.output == "name":
        for item in found:
            say(_name_of(item))
        return
    single = len(wanted.targets) == 1 and len(wanted.targets[0].names) == 1
    if single and not found:
        return
    content = found[0] if single else as_list(found)
    say_json(content) if wanted.output == "json" else say_yaml(content)


def as_list(items: Sequence[object]) -> dict[str, object]:
    """Return a list as kubectl prints it."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": list(items),
    }


def _name_of(item: Mapping[str, Any]) -> str:
    group = item["apiVersion"].partition("/")[0]
    return f"{item['kind'].lower()}.{group}/{item['metadata']['name']}"


def _say_nothing(client: Client, wanted: Wanted) -> None:
    """Say that there is nothing, and where there is something."""
    if wanted.output in ("json", "yaml"):
        return
    if wanted.space is None:
        note("No resources found")
        return
    others = sum(
        len(client.get(collection(target.kind.plural, None), wanted.query, TABLE)["rows"])
        for target in wanted.targets
    )
    hint = f"; {others} in other name spaces: -A" if others else ""
    note(f"No resources found in {wanted.space} namespace{hint}")


# Watching


def _watch(client: Client, wanted: Wanted) -> int:
    if len(wanted.targets) != 1 or len(wanted.targets[0].names) > 1:
        raise Stop(Exit.USAGE, "-w watches one kind, or one resource")
    target = wanted.targets[0]
    field = f"metadata.name={target.names[0]}" if target.names else ""
    query = with_query(fieldSelector=field) | wanted.query
    path = collection(target.kind.plural, wanted.space)
    accept = TABLE if wanted.is_table else "application/json"
    printer = _Printer(wanted, target.kind)
    while True:
        now = client.get(path, query, accept)
        printer.begin(now)
        version = now["metadata"]["resourceVersion"]
        try:
            _follow(client, path, query, version, accept, printer)
        except Refused as refusal:
            if refusal.status != 410:  # another daemon, or too long ago: begin anew
                raise


def _follow(
    client: Client,
    path: str,
    query: Mapping[str, str],
    version: str,
    accept: str,
    printer: _Printer,
) -> None:
    while True:
        since = {**query, "resourceVersion": version}
        for event in client.watch(path, since, accept, WATCH_S):
            version = event["object"]["metadata"]["resourceVersion"]
            printer.print(event["object"], event["type"])


class _Printer:
    """Prints objects as they come. Columns keep the widths that they once needed."""

    def __init__(self, wanted: Wanted, kind: KindWords) -> None:
        self._wanted = wanted
        self._kind = kind
        self._widths: list[int] = []

    def begin(self, content: Mapping[str, Any]) -> None:
        """Print what there is now: a table or a list."""
        if not self._wanted.is_table:
            for item in content["items"]:
                self.print(item, "ADDED")
            return
        table = {"kind": self._kind, "columns": content["columnDefinitions"]}
        header = [name.upper() for name in header_of(table, self._wanted)]
        rows = [_cells(row, table, self._wanted) for row in content["rows"]]
        self._widths = widths_of([header, *rows])
        for row in (header, *rows):
            say(row_line(row, self._widths))

    def print(self, content: Mapping[str, Any], change: str) -> None:
        """Print one object, or the row that stands for it."""
        match self._wanted.output:
            case "json":
                say(json.dumps(content, ensure_ascii=False))
            case "yaml":
                say("---")
                say_yaml(content)
            case "name":
                say(_name_of(content))
            case _:
                self._print_row(content, change)

    def _print_row(self, content: Mapping[str, Any], change: str) -> None:
        table = {"kind": self._kind, "columns": content["columnDefinitions"]}
        cells = _cells(content["rows"][0], table, self._wanted)
        self._widths = [max(*sizes) for sizes in zip(self._widths, map(len, cells), strict=True)]
        gone = "   (deleted)" if change == "DELETED" else ""
        say(row_line(cells, self._widths) + gone)
