"""Writes one page per kind from its schema and its example; run it after either changes.

    python docs/reference/generate.py

A test runs `pages()` and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from fos1d.kinds import KINDS, Kind
from fos1d.kinds.entries import KEY_BYTES, MOST_KEY_BYTES, MOST_PER_CPU_BYTES, MOST_VALUE_BYTES
from fos1d.kinds.fields import OrAlone, Parsed
from fos1d.kinds.map import KEYLESS, VALUELESS, MapTypeName
from fos1d.kinds.map_flags import ACCEPTED, names_of
from fos1d.kinds.meta import Expression, LabelSelector, Metadata, Model
from fos1d.quantity import PortRange, duration_text

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples" / "kinds"
NOT_YET = (
    "> **Not in this release:** the data path. Manifests of this kind are validated completely;"
    " the resource then\n> has the condition `Programmed=False`, reason `NotSupportedYet`, and is"
    " never `Ready`.\n"
)
PARTLY = (
    "> **In this release** programs of type `xdp`, and those of type `cgroup` with a `source`, are"
    " loaded. The others are\n> validated completely, and then have the condition"
    " `Programmed=False`, reason `NotSupportedYet`. A program for cgroups:\n"
    "> [policy.md](../design/policy.md#programs-of-your-own).\n"
)
NETWORK = (
    "> What the fields mean together: [policy.md](../design/policy.md). policyType `nat` is an"
    " [EBPFNATPolicy](nat_policy.md) in place:\n> at `nat.interface`, else at the interfaces of the"
    " selector, else at those that have `nat.externalIP`.\n"
)
NAT = (
    "> What the fields mean together, and what the status says: [nat.md](../operate/nat.md); how it"
    " is made: [nat.md](../design/nat.md).\n> `ebpfProgram` has no effect in this release: the"
    " resource is then not Ready, reason `NotSupportedYet`.\n"
)
CONTAINER = (
    "> What the fields mean together: [policy.md](../design/policy.md); who is a workload:"
    " [workloads.md](workloads.md).\n"
)
NOTES = {
    "program": PARTLY,
    "map": "",
    "network_policy": NETWORK,
    "nat_policy": NAT,
    "container_policy": CONTAINER,
}
SELECTOR = "[selector](metadata.md#selectors)"


class Row(NamedTuple):
    """One field of a page's table."""

    field: str
    type: str
    default: str
    meaning: str


def pages() -> dict[str, str]:
    """Return the text of every generated page, by its file name."""
    return {f"{kind.slug}.md": page(kind) for kind in KINDS} | {"metadata.md": metadata_page()}


def page(kind: Kind) -> str:
    """Return the page of one kind."""
    words = [kind.singular, kind.plural, *({kind.short} - {kind.singular})]
    names = ", ".join(f"`{word}`" for word in words)
    spec = kind.model.model_fields["spec"].annotation
    assert isinstance(spec, type)
    example = (EXAMPLES / f"{kind.slug}.yaml").read_text()
    return "\n".join(
        [
            f"# {kind.name}\n",
            f"{kind.model.__doc__}\n",
            f"On the command line: {names}. What all kinds share: [metadata.md](metadata.md); how"
            " rates, sizes, times and\nports are written: [quantities.md](quantities.md); what YAML"
            " is read: [manifests.md](manifests.md).\n",
            NOTES.get(kind.slug, NOT_YET),
            f"## Example\n\n```yaml\n{example}```\n",
            f"## Fields of `spec`\n\n{table(rows(spec))}",
            *([map_types()] if kind.slug == "map" else []),
        ]
    ).replace("\n\n\n", "\n\n")


def map_types() -> str:
    """Return what each type of map has and takes."""
    lines = ["| type | keySize | valueSize | initData | flags |", "|---|---|---|---|---|"]
    for name in get_args(MapTypeName):
        least, most = KEY_BYTES.get(name, (1, MOST_KEY_BYTES))
        keys = "" if name in KEYLESS else str(least) if least == most else f"{least} to {most}"
        per_cpu = name.startswith("percpu_")
        values = f"1 to {MOST_PER_CPU_BYTES if per_cpu else MOST_VALUE_BYTES}"
        flags = ", ".join(f"`{flag}`" for flag in names_of(ACCEPTED[name]))
        entries = "" if name in KEYLESS else "yes"
        cells = (f"`{name}`", keys, "" if name in VALUELESS else values, entries, flags)
        lines.append(f"| {' | '.join(cells)} |")
    return (
        "## What each type has\n\nAn empty cell is refused in a manifest.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def metadata_page() -> str:
    """Return the page about what all kinds share."""
    return f"""# What all kinds share

`apiVersion` is always `networking.fos1.io/v1alpha1`. A `status` in a manifest is ignored with a
warning: it is what the daemon reports. Priority: lower numbers win, everywhere; ties are decided by
name space, then name, then the position in the list.

## Fields of `metadata`

{table(rows(Metadata))}
## Selectors

A selector names things by their labels, as in Kubernetes. All of its requirements must be met; an
empty one, `{{}}`, selects everything.

{table(rows(LabelSelector, expand=True))}
`spec.nodeSelector` is one: only routers whose labels (`[node] labels` in fos1d.toml) match use the
manifest, so that one repository drives a fleet. Two manifests that want one thing do not disturb
each other where no router can match both selectors.
"""


def table(found: Iterator[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for row in found:
        cells = (f"`{row.field}`", row.type, row.default, row.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def rows(model: type[Model], prefix: str = "", expand: bool = False) -> Iterator[Row]:
    """Yield a row for each field of a model and of the models within it."""
    for info in model.model_fields.values():
        field = f"{prefix}{info.alias}"
        inner = _model_in(info.annotation)
        yield Row(field, _type(info), _default(info), info.description or "")
        if inner is not None and (expand or inner not in (LabelSelector, Expression)):
            is_list = get_origin(_bare(info.annotation)) is tuple
            yield from rows(inner, f"{field}{'[]' if is_list else ''}.")


def _bare(annotation: Any) -> Any:
    """Return the type without None and without what is annotated to it."""
    if get_origin(annotation) in (Union, UnionType) and type(None) in get_args(annotation):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _notes(annotation: Any) -> list[Any]:
    """Return all that is annotated to a type, at any depth but within lists."""
    found = list(getattr(annotation, "__metadata__", ()))
    if get_origin(annotation) is not tuple:
        for part in get_args(annotation):
            found += _notes(part) if not isinstance(part, str) else []
    return found


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, Model) else None
    found = (_model_in(part) for part in get_args(annotation))
    return next((part for part in found if part is not None), None)


def _type(info: FieldInfo) -> str:
    notes = [*info.metadata, *_notes(info.annotation)]
    bare = _bare(info.annotation)
    if get_origin(bare) is tuple:
        item = get_args(bare)[0]
        said = _word(_bare(item), _notes(item))
        alone = any(isinstance(note, OrAlone) for note in notes)
        return f"{said}, or a list" if alone else f"list of {said}"
    return _word(bare, notes)


def _word(bare: Any, notes: list[Any]) -> str:
    for note in notes:
        if isinstance(note, Parsed):
            return note.what.removeprefix("a ").removeprefix("an ")
    if get_origin(bare) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(bare))
    if bare is LabelSelector:
        return SELECTOR
    if isinstance(bare, type) and issubclass(bare, Model):
        return "mapping"
    return _number(notes) if bare is int else {bool: "bool", str: "text"}[bare]


def _number(notes: list[Any]) -> str:
    flat = [part for note in notes for part in (getattr(note, "metadata", None) or [note])]
    least = next((note.ge for note in flat if hasattr(note, "ge")), None)
    most = next((note.le for note in flat if hasattr(note, "le")), None)
    return f"integer, {least} to {_power(most)}" if most is not None else "integer"


def _power(number: int) -> str:
    exponent = (number + 1).bit_length() - 1
    return f"2^{exponent}-1" if number > 1 << 20 and number + 1 == 1 << exponent else str(number)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    is_time = any(isinstance(n, Parsed) and n.what.startswith("a time") for n in info.metadata)
    match value:
        case None | "" | Model():
            return ""
        case bool():
            return "true" if value else "false"
        case dict():
            return "{}"
        case tuple():
            return "[]"
        case PortRange():
            return str(value)
        case int() if is_time:
            return duration_text(value)
        case int() if value == (1 << 32) - 1:
            return hex(value)
        case _:
            return str(value)


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
