"""Words of the command line: kinds, KIND/NAME, durations.

Known here by heart, since the kinds' own package takes long to import; a test keeps them equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fos1d.cli.exits import Exit, Stop
from fos1d.model.identity import API_GROUP, ResourceId

DEFAULT_NAMESPACE = "default"
ALL = "all"


@dataclass(frozen=True, slots=True)
class KindWords:
    """A kind's name, and what else it is called."""

    name: str
    plural: str
    short: str

    @property
    def singular(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    @property
    def qualified(self) -> str:
        """The name as kubectl prints it before a resource's."""
        return f"{self.singular}.{API_GROUP}"


KINDS = (
    KindWords("EBPFProgram", "ebpfprograms", "ebpf"),
    KindWords("EBPFMap", "ebpfmaps", "ebpfmap"),
    KindWords("EBPFNetworkPolicy", "ebpfnetworkpolicies", "enpol"),
    KindWords("EBPFTrafficControl", "ebpftrafficcontrols", "etcl"),
    KindWords("EBPFNATPolicy", "ebpfnatpolicies", "enat"),
    KindWords("EBPFContainerPolicy", "ebpfcontainerpolicies", "ecpol"),
)
_BY_WORD = {word: kind for kind in KINDS for word in (kind.singular, kind.plural, kind.short)}


@dataclass(frozen=True, slots=True)
class Target:
    """A kind, and the names of some of it; none stand for all."""

    kind: KindWords
    names: tuple[str, ...] = ()


def kind_of(word: str) -> KindWords:
    """Return the kind of that singular, plural or short name, in any case. Raises Stop."""
    plain = word.lower().removesuffix(f".{API_GROUP}")
    if plain in _BY_WORD:
        return _BY_WORD[plain]
    import difflib

    near = difflib.get_close_matches(plain, _BY_WORD, 1)
    known = ", ".join(kind.plural for kind in KINDS)
    hint = f"did you mean {near[0]}?" if near else f"kinds: {known}"
    raise Stop(Exit.USAGE, f'there is no kind "{word}"; {hint}')


def targets_of(words: Sequence[str]) -> list[Target]:
    """Return what `KIND`, `KIND,KIND`, `KIND NAME…`, `KIND/NAME…` or `all` mean. Raises Stop."""
    if not words:
        known = ", ".join([*(kind.plural for kind in KINDS), ALL])
        raise Stop(Exit.USAGE, f"name a kind, or KIND/NAME; kinds: {known}")
    if any("/" in word for word in words):
        return [_slashed(word) for word in words]
    first, names = words[0], words[1:]
    is_all = first.lower() == ALL
    kinds = KINDS if is_all else tuple(kind_of(word) for word in first.split(","))
    if names and len(kinds) > 1:
        raise Stop(Exit.USAGE, "names can follow one kind only; write KIND/NAME for each")
    return [Target(kind, tuple(names)) for kind in kinds]


def _slashed(word: str) -> Target:
    kind, slash, name = word.partition("/")
    if not slash or not kind or not name or "/" in name:
        raise Stop(Exit.USAGE, f'"{word}" must be KIND/NAME, as the others are')
    return Target(kind_of(kind), (name,))


def one_target(words: Sequence[str]) -> tuple[KindWords, str]:
    """Return the one resource that `KIND/NAME` or `KIND NAME` means. Raises Stop."""
    targets = targets_of(words) if words else []
    if len(targets) != 1 or len(targets[0].names) != 1:
        raise Stop(Exit.USAGE, "name one resource: KIND/NAME")
    return targets[0].kind, targets[0].names[0]


def resource_id(kind: KindWords, namespace: str, name: str) -> ResourceId:
    """Return who that is."""
    return ResourceId(kind.name, namespace, name)


_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """Return the seconds that `90s`, `5m` or `1h30m` mean. Raises Stop."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Stop(Exit.USAGE, f'"{text}" must be a time with a unit (ms, s, m, h, d), such as 2h')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
