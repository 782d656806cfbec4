"""Documents of a file: one compose by libyaml, one walk over its nodes.

The walk keeps no positions; a document composes its file again when it is asked where something
stands, which happens only to report a finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from fos1d.manifest.scalars import Scalar, plain
from fos1d.manifest.syntax import (
    MOST_LEVELS,
    TOO_DEEP,
    Composer,
    Refused,
    check_bytes,
    check_features,
    explained,
    place_of,
)
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.identity import Origin
from fos1d.quantity import shown

Loc: TypeAlias = tuple[str | int, ...]
MOST_FLAWS = 100

_CONTROL = re.compile(r"[^\t\n -~\x85\xa0-\U0010ffff]")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """One document that is a mapping. `index` counts all documents of the file, from 0.

    `flaws` are the findings within it: where there is one, `data` has a stand-in.
    """

    data: dict[str, Any]
    origin: Origin
    index: int
    source: bytes = field(repr=False)
    flaws: tuple[Diagnostic, ...] = ()

    def where(self, loc: Loc, key: bool = False) -> Origin:
        """Return the position of the value at `loc`, or of its key.

        A list or mapping below a key stands where its key does. Where there is nothing at `loc`,
        it is the position of the nearest thing around it.
        """
        return self.places().where(loc, key)

    def places(self) -> Places:
        """Compose the file again, to ask for many positions."""
        return places(self.origin.path, self.source)[self.index]


@dataclass(frozen=True, slots=True)
class Places:
    """The nodes of one document, to find positions in."""

    path: str
    root: Node = field(repr=False)

    def where(self, loc: Loc, key: bool = False) -> Origin:
        """Return the position of the value at `loc`, or of its key."""
        node, name = self.root, None
        for step in loc:
            found = _child(node, step)
            if found is None:
                return self._at(name or node)
            name, node = found
        block = isinstance(node, CollectionNode) and not node.flow_style
        return self._at(name if name is not None and (key or block) else node)

    def beside(self, loc: Loc) -> Iterator[Loc]:
        """Yield the places of all items of the list in which `loc` is one."""
        node = self.root
        for step in loc[:-1]:
            found = _child(node, step)
            if found is None:
                return
            _, node = found
        if isinstance(node, SequenceNode):
            yield from ((*loc[:-1], index) for index in range(len(node.value)))

    def _at(self, node: Node) -> Origin:
        return _origin(self.path, node)


def places(path: str, data: bytes) -> list[Places]:
    """Compose a file that was loaded before, to find positions in its documents."""
    roots, _ = _compose(data)
    return [Places(path, root) for root in roots]


def load_documents(path: str, data: bytes) -> tuple[list[Document], list[Diagnostic]]:
    """Load every document of a file; empty ones are left out.

    The findings are all errors. What libyaml cannot read ends the file: the documents before it
    are still returned. No bytes make this raise.
    """
    try:
        check_bytes(data)
        check_features(data)
    except Refused as refused:
        return [], [_diagnostic(path, refused)]
    except yaml.YAMLError:
        pass  # the composer meets it again, after the documents before it
    roots, refused_at = _compose(data)
    documents: list[Document] = []
    findings: list[Diagnostic] = []
    for index, root in enumerate(roots):
        document = _document(path, data, index, root)
        if isinstance(document, Document):
            documents.append(document)
            findings += document.flaws
        elif document is not None:
            findings.append(document)
    if refused_at is not None:
        findings.append(_diagnostic(path, refused_at))
    return documents, findings


def _compose(data: bytes) -> tuple[list[Node], Refused | None]:
    roots: list[Node] = []
    try:
        composer = Composer(data)
        while composer.check_node():
            node = composer.get_node()
            assert node is not None
            roots.append(node)
    except yaml.YAMLError as error:
        return roots, explained(error, data)
    return roots, None


def _document(path: str, data: bytes, index: int, root: Node) -> Document | Diagnostic | None:
    origin = _origin(path, root)
    if not isinstance(root, MappingNode):
        if isinstance(root, ScalarNode) and not root.value and not root.style:
            return None
        return Diagnostic(
            origin, "", f"a manifest is a mapping (apiVersion, kind, …), not {_sort(root)}"
        )
    walk = _Walk()
    content = walk.mapping(root, 1)
    flaws = walk.diagnostics(path, root) if walk.faults else ()
    return Document(content, origin, index, data, flaws)


class _Walk:
    """Turns nodes into plain data and notes what is wrong with which node."""

    __slots__ = ("faults",)

    def __init__(self) -> None:
        self.faults: list[tuple[Node, str]] = []

    def value(self, node: Node, level: int) -> Any:
        if type(node) is ScalarNode:
            return self.scalar(node)
        if level > MOST_LEVELS:
            self.fault(node, TOO_DEEP)
            return None
        if type(node) is MappingNode:
            return self.mapping(node, level)
        return [self.value(item, level + 1) for item in node.value]

    def mapping(self, node: MappingNode, level: int) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name, value in node.value:
            key = self.key(name)
            if key is None:
                continue
            if key in content:
                self.duplicate(node, name)
            else:
                content[key] = self.value(value, level + 1)
        return content

    def key(self, node: Node) -> str | None:
        if type(node) is not ScalarNode:
            self.fault(node, f"a key is text, not {_sort(node)}")
        elif node.value == "<<" and not node.style:
            self.fault(node, "merge keys are not read; write the fields out")
        elif type(text := self.scalar(node)) is str:
            return text
        elif not node.value:
            self.fault(node, "the key before the colon is missing")
        else:
            self.fault(node, f"a key is text; write {shown(node.value)} in quotes")
        return None

    def duplicate(self, node: MappingNode, name: Node) -> None:
        if len(self.faults) < MOST_FLAWS:
            first = next(key for key, _ in node.value if key.value == name.value)
            line = place_of(first.start_mark).line
            self.fault(name, f"duplicate key; it stands already on line {line}")

    def scalar(self, node: ScalarNode) -> Scalar:
        text: str = node.value
        if node.style:
            if node.style == '"' and not text.isprintable() and (found := _CONTROL.search(text)):
                self.fault(node, f"control character U+{ord(found[0]):04X} in text; remove it")
            return text
        try:
            return plain(text)
        except ValueError as error:
            self.fault(node, str(error))
            return text

    def fault(self, node: Node, message: str) -> None:
        if len(self.faults) < MOST_FLAWS:
            self.faults.append((node, message))

    def diagnostics(self, path: str, root: Node) -> tuple[Diagnostic, ...]:
        locs = _locs(root)
        return tuple(
            Diagnostic(_origin(path, node), locs[id(node)], message)
            for node, message in self.faults
        )


def _sort(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, SequenceNode) else f"the text {shown(node.value)}"


def _child(node: Node, step: str | int) -> tuple[Node | None, Node] | None:
    """Return the key (None in a list) and the value at `step`; a duplicate key's first."""
    if isinstance(node, MappingNode) and isinstance(step, str):
        return next(((k, v) for k, v in node.value if k.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None


def _locs(root: Node) -> dict[int, str]:
    """Return the path of every key and value, by the identity of its node."""
    locs: dict[int, str] = {}
    pending: list[tuple[Node, Loc]] = [(root, ())]
    while pending:
        node, loc = pending.pop()
        locs[id(node)] = field_path(loc)
        if isinstance(node, SequenceNode):
            pending += [(item, (*loc, i)) for i, item in enumerate(node.value)]
        elif isinstance(node, MappingNode) and len(loc) <= MOST_LEVELS:
            for name, value in node.value:
                inner = (*loc, name.value) if isinstance(name, ScalarNode) else loc
                locs[id(name)] = field_path(inner)
                pending.append((value, inner))
    return locs


def field_path(loc: Loc) -> str:
    """Write a path as people do: `spec.filters[0].classID`, `metadata.labels["a/b"]`."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _IDENTIFIER.fullmatch(step):
            path += f".{step}" if path else step
        else:
            path += f"[{shown(step)}]"
    return path


def _origin(path: str, node: Node) -> Origin:
    place = place_of(node.start_mark)
    return Origin(path, place.line, place.column)


def _diagnostic(path: str, refused: Refused) -> Diagnostic:
    return Diagnostic(Origin(path, refused.place.line, refused.place.column), "", refused.message)
