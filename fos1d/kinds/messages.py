"""What pydantic found, in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic_core import ErrorDetails

from fos1d.kinds.fields import sort_of
from fos1d.kinds.meta import Faults, Model
from fos1d.manifest import Loc, did_you_mean
from fos1d.manifest.loader import field_path
from fos1d.quantity import shown, shown_number


class Finding(NamedTuple):
    """What is wrong where in a document; `at_key` where the key itself is."""

    loc: Loc
    message: str
    at_key: bool = False


SORTS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping",
}
HANDLED = frozenset(SORTS) | {
    "value_error",
    "missing",
    "extra_forbidden",
    "literal_error",
    "greater_than_equal",
    "less_than_equal",
    "too_short",
}
_QUOTED = re.compile(r"'([^']*)'")


def findings_of(
    error: ErrorDetails, model: type[Model], data: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield what one of pydantic's errors says. `data` is the document it is about."""
    loc = _real(error["loc"], data)
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            yield from _from_value_error(loc, context["error"], data)
        case "missing":
            yield Finding(loc, _missing(loc, model))
        case "extra_forbidden":
            yield Finding(loc, _unknown(loc, model), at_key=True)
        case "literal_error":
            yield Finding(loc, _not_allowed(error["input"], context["expected"]))
        case "greater_than_equal":
            number = shown_number(error["input"])
            yield Finding(loc, f"{number} is too small; it must be {context['ge']} or more")
        case "less_than_equal":
            number = shown_number(error["input"])
            yield Finding(loc, f"{number} is too large; it must be {context['le']} or less")
        case "too_short":
            if not error["input"]:
                yield Finding(loc, "is empty; give at least one, or remove the field")
        case sort:
            yield Finding(loc, _wrong_sort(SORTS.get(sort), error["input"]))


def _real(loc: tuple[int | str, ...], data: Any) -> Loc:
    """Return `loc` without the index that a lone item has only in the model's list."""
    steps: list[str | int] = []
    for step in loc:
        if isinstance(step, int) and not isinstance(data, list):
            continue
        steps.append(step)
        data = _inner(data, step)
    return tuple(steps)


def _inner(data: Any, step: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


def _from_value_error(loc: Loc, error: object, data: Mapping[str, Any]) -> Iterator[Finding]:
    if not isinstance(error, Faults):
        yield Finding(loc, str(error))
        return
    for fault in error.faults:
        yield Finding(_real((*loc, *fault.loc), data), fault.message)


def _wrong_sort(wanted: str | None, value: object) -> str:
    if value is None:
        example = {"a list": "write [] for an empty list"}.get(wanted or "", "give it one")
        return f"has no value; {example}, or remove the line"
    if wanted is None:
        return f"is not valid: {sort_of(value)}"
    advice = ""
    if wanted == "text" and isinstance(value, int):
        advice = f"; write {shown(str(value).lower())} with the quotes"
    elif isinstance(value, str) and (plain := _unquoted(wanted, value)):
        advice = f"; write {plain} without quotes"
    elif wanted == "a list":
        advice = "; begin each item with `- `, or write [a, b]"
    elif wanted == "a mapping":
        advice = "; write `name: value` lines below it"
    return f"must be {wanted}, not {sort_of(value)}{advice}"


def _unquoted(wanted: str, value: str) -> str | None:
    if wanted == "a whole number" and re.fullmatch("0|[1-9][0-9]{0,19}|0x[0-9a-fA-F]+", value):
        return value
    if wanted == "true or false" and value.lower() in ("true", "false"):
        return value.lower()
    return None


def _not_allowed(value: object, expected: str) -> str:
    allowed = _QUOTED.findall(expected)
    listed = ", ".join(allowed)
    if value is None:
        return f"has no value; allowed: {listed}"
    if not isinstance(value, str):
        return f"must be one of {listed}, not {sort_of(value)}"
    if len(allowed) == 1:
        return f"{shown(value)} is not known; write {listed}"
    return f"{shown(value)} is not allowed{did_you_mean(value, allowed) or ';'} allowed: {listed}"


def _missing(loc: Loc, model: type[Model]) -> str:
    here = model_at(model, loc[:-1])
    infos = here.model_fields.values() if here else ()
    annotation = next((info.annotation for info in infos if info.alias == loc[-1]), None)
    if get_origin(annotation) is not Literal:
        return "is required"
    *others, last = get_args(annotation)
    return (
        f"is required; write {', '.join(others)} or {last}"
        if others
        else f"is required; write {last}"
    )


def _unknown(loc: Loc, model: type[Model]) -> str:
    name = str(loc[-1])
    here = model_at(model, loc[:-1])
    known = field_names(here) if here else []
    if elsewhere := list(paths_to(name, model)):
        near = max(elsewhere, key=lambda path: _steps_shared(path, loc))
        return f"unknown field here; did you mean {field_path(near)}?"
    if hint := did_you_mean(name, known):
        return f"unknown field{hint}"
    return f"unknown field; fields here: {', '.join(known)}"


def _steps_shared(one: Loc, other: Loc) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def field_names(model: type[Model]) -> list[str]:
    """Return the fields of a model as manifests write them."""
    return [str(info.alias) for info in model.model_fields.values()]


def model_at(model: type[Model], loc: Loc) -> type[Model] | None:
    """Return the model of the mapping at `loc` of a document."""
    found: type[Model] | None = model
    for step in loc:
        if isinstance(step, int) or found is None:
            continue
        fields = {str(info.alias): info for info in found.model_fields.values()}
        found = inner_model(fields[step].annotation) if step in fields else None
    return found


def inner_model(annotation: Any) -> type[Model] | None:
    """Return the model within a field's type, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    found = (inner_model(part) for part in get_args(annotation))
    return next((part for part in found if part is not None), None)


def paths_to(name: str, model: type[Model], loc: Loc = ()) -> Iterator[Loc]:
    """Yield each place where a document of `model` can have a field of that name."""
    for info in model.model_fields.values():
        here = (*loc, str(info.alias))
        if info.alias == name:
            yield here
        if (inner := inner_model(info.annotation)) is not None:
            yield from paths_to(name, inner, here)
