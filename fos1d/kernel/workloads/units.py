"""systemd's units: which unit a cgroup is, and what `[X-Fos1]` says in the unit's files.

    [X-Fos1]
    Labels=app=database tier=db
    Namespace=shop

The files are read where systemd reads them, so nothing depends on whether it answers: at boot, in
its own jobs, or at all. What a file says counts when it is written, not at the next daemon-reload.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fos1d.kinds.names import label_key, label_value, namespace

SEARCH_PATH = tuple(
    Path(place)
    for place in (
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/run/systemd/generator.early",
        "/etc/systemd/system",
        "/run/systemd/system",
        "/run/systemd/generator",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/run/systemd/generator.late",
    )
)
SECTION = "X-Fos1"
UNIT_LABEL, SLICE_LABEL = "systemd.io/unit", "systemd.io/slice"
ROOT_SLICE = "-.slice"

_WITH_CGROUPS = (".service", ".scope", ".socket", ".mount", ".swap")
_USER_MANAGER = re.compile(r"user@\d+\.service")
_SPECIFIER = re.compile(r"%(.)")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by its place in the tree. `of_user` is a unit of a user's own systemd."""

    name: str
    slice: str
    of_user: bool = False


def unit_at(path: str) -> Unit | None:
    """Return the unit whose cgroup is at a path below the root; None for what is within one.

    A unit's cgroup lies in its slice, and a slice's in the slice above; whatever has another
    name, or lies below a service, was not made by systemd.
    """
    if path == ".":
        return Unit(ROOT_SLICE, ROOT_SLICE)
    above, of_user = ROOT_SLICE, False
    *outer, last = (part.removeprefix("_") for part in PurePosixPath(path).parts)
    for part in outer:
        if part.endswith(".slice"):
            above = part
        elif _USER_MANAGER.fullmatch(part) and not of_user:
            above, of_user = ROOT_SLICE, True
        else:
            return None
    if last.endswith(".slice"):
        return Unit(last, last, of_user)
    return Unit(last, above, of_user) if last.endswith(_WITH_CGROUPS) else None


@dataclass(frozen=True, slots=True)
class UnitLabels:
    """What a unit's files say. `problems` are messages with their places."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    problems: tuple[str, ...] = ()


def unit_labels(unit: str, search_path: Sequence[Path] = SEARCH_PATH) -> UnitLabels:
    """Read the labels of a unit from its fragment and drop-ins."""
    labels: dict[str, str] = {}
    space = ""
    problems: list[str] = []
    for file in unit_files(unit, search_path):
        for line, key, value in _assignments(file):
            try:
                if key == "Labels":
                    labels = {**labels, **parse_labels(value, unit)} if value else {}
                elif key == "Namespace":
                    space = namespace(expanded(value, unit)) if value else ""
                else:
                    raise ValueError(f"{key}= is not known; use Labels= or Namespace=")
            except ValueError as error:
                problems.append(f"{file}:{line}: [{SECTION}] {error}")
    return UnitLabels(labels, space, tuple(problems))


def unit_files(unit: str, search_path: Sequence[Path]) -> Iterator[Path]:
    """Yield the files of a unit in the order in which they count (systemd.unit(5))."""
    names = [unit]
    if template := template_of(unit):
        names.append(template)
    fragment = _first(search_path, names)
    if fragment is not None:
        yield fragment
    drop_ins: dict[str, Path] = {}
    for folder in _drop_in_folders(names):
        for place in search_path:
            for file in sorted((place / folder).glob("*.conf")):
                drop_ins.setdefault(file.name, file)
    for _, file in sorted(drop_ins.items()):
        yield file


def _first(search_path: Sequence[Path], names: Sequence[str]) -> Path | None:
    places = (place / name for name in names for place in search_path)
    return next((path for path in places if path.is_file()), None)


def template_of(unit: str) -> str:
    """Return `getty@.service` for `getty@tty1.service`, "" for what is no instance."""
    name, dot, kind = unit.rpartition(".")
    prefix, at, instance = name.partition("@")
    return f"{prefix}@{dot}{kind}" if at and instance else ""


def _drop_in_folders(names: Sequence[str]) -> Iterator[str]:
    """Yield the folders that hold drop-ins, the most particular first."""
    yield from (f"{name}.d" for name in names)
    name, dot, kind = names[-1].rpartition(".")
    while "-" in name.rstrip("-"):
        name = name.rstrip("-").rpartition("-")[0] + "-"
        yield f"{name}{dot}{kind}.d"
    yield f"{kind}.d"


def _assignments(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, key and value of each assignment in our section."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    section = ""
    for line, content in _joined(text):
        if content.startswith("[") and content.endswith("]"):
            section = content[1:-1]
        elif section == SECTION:
            key, equals, value = content.partition("=")
            yield line, key.strip() if equals else content, value.strip()


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, continued ones joined, each with its number."""
    begun, number = "", 0
    for line, raw in enumerate(text.splitlines(), 1):
        content = raw.strip()
        if not content or content[0] in "#;":
            continue
        number = number if begun else line
        if content.endswith("\\"):
            begun += content[:-1] + " "
            continue
        yield number, begun + content
        begun = ""
    if begun:
        yield number, begun.strip()


def parse_labels(text: str, unit: str) -> dict[str, str]:
    """Return the labels of `app=database tier="db"`.

    Raises ValueError with what is wrong.
    """
    labels = {}
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"`{word}` is no label; write key=value")
        labels[label_key(expanded(key, unit))] = label_value(expanded(value, unit))
    return labels


def expanded(text: str, unit: str) -> str:
    """Replace the specifiers that name the unit: %n %N %p %i %j %%."""
    name = unit.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    known: Mapping[str, str] = {
        "n": unit,
        "N": name,
        "p": prefix,
        "i": instance,
        "j": prefix.rpartition("-")[2],
        "%": "%",
    }

    def one(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ValueError(f"%{match[1]} is not known here; use %n %N %p %i %j or %%")
        return known[match[1]]

    return _SPECIFIER.sub(one, text)


LabelsOf = Callable[[str], UnitLabels]
