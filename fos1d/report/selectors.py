"""Label and field selectors as kubectl writes them: `a=b,c!=d,e in (f,g),h,!i`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fos1d.model.identity import ResourceId
from fos1d.report.refusal import ApiRefusal

FIELDS = ("metadata.name", "metadata.namespace")

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"(?P<key>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<value>{_VALUE})")
_SET = re.compile(rf"(?P<key>{_KEY})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EXISTS = re.compile(rf"(?P<absent>!?)\s*(?P<key>{_KEY})")
_COMMA = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. `values` None asks only whether the label is there; `negated` turns it round."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet the term."""
        if self.values is None:
            return (self.key in labels) is not self.negated
        return (labels.get(self.key) in self.values) is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms on labels and on name and name space, all of which must be met."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def selects(self, identity: ResourceId, labels: Callable[[], Mapping[str, str]]) -> bool:
        """Whether a resource is selected; `labels` is called only if needed."""
        names = {"metadata.name": identity.name, "metadata.namespace": identity.namespace}
        if not all(term.selects(names) for term in self.fields):
            return False
        if not self.labels:
            return True
        found = labels()
        return all(term.selects(found) for term in self.labels)


def parse_selector(labels: str, fields: str) -> Selector:
    """Return the selector that the two query parameters name. Raises ApiRefusal (400)."""
    wanted = tuple(_requirement(term, "labelSelector") for term in _terms(labels))
    named = tuple(_field(term) for term in _terms(fields))
    return Selector(wanted, named)


def _terms(text: str) -> list[str]:
    return [term.strip() for term in _COMMA.split(text)] if text.strip() else []


def _requirement(term: str, parameter: str) -> Requirement:
    if match := _EQUALITY.fullmatch(term):
        return Requirement(match["key"], frozenset({match["value"]}), match["operator"] == "!=")
    if match := _SET.fullmatch(term):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], values, match["operator"] == "notin")
    if match := _EXISTS.fullmatch(term):
        return Requirement(match["key"], None, bool(match["absent"]))
    raise ApiRefusal(
        400,
        f'{parameter}: "{term}" cannot be read; write key=value, key!=value, key in (a,b),'
        " key notin (a,b), key or !key, separated by commas",
    )


def _field(term: str) -> Requirement:
    found = _requirement(term, "fieldSelector")
    if found.key not in FIELDS or found.values is None:
        raise ApiRefusal(400, f'fieldSelector: "{term}": only {" and ".join(FIELDS)} can be named')
    return found
