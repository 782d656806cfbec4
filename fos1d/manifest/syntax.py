"""What keeps bytes from being YAML that we read: encoding, limits, syntax, refused features."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml
from yaml._yaml import CParser, Mark
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    ScalarEvent,
)

from fos1d.quantity import shown

MOST_BYTES = 1 << 20
MOST_LEVELS = 32

_NOT_TEXT = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_FEATURE = re.compile(rb"(?:^|[\s,\[{:?\-\x85\xa8\xa9])[&*!]|^%", re.MULTILINE)
_SIGNS = (b"&", b"*", b"!", b"%")
_SAFE_LINE_BYTES = 200
_BRACKETS = (b"[", b"{")


class Place(NamedTuple):
    """A line and a column, counted from 1."""

    line: int
    column: int


START = Place(1, 1)


class Refused(Exception):
    """The bytes are not YAML that we read; says where."""

    def __init__(self, message: str, place: Place = START) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def place_of(mark: Any) -> Place:
    """Return where libyaml's mark points."""
    return Place(mark.line + 1, mark.column + 1)


def too_large(size_bytes: int) -> str:
    """Say that a file is larger than what is read."""
    return f"the file has {size_bytes} bytes; at most {MOST_BYTES} are read: split it"


def check_bytes(data: bytes) -> None:
    """Raise Refused unless `data` is UTF-8 text without control characters, within the limit."""
    if len(data) > MOST_BYTES:
        raise Refused(too_large(len(data)))
    if data.startswith(b"\xef\xbb\xbf"):
        raise Refused("the file begins with a byte order mark; save it as UTF-8 without one")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused("the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        byte = f"0x{data[error.start]:02x}"
        raise Refused(f"byte {byte} is not UTF-8; save the file as UTF-8", _end(before)) from None
    if match := _NOT_TEXT.search(text):
        character = f"U+{ord(match[0]):04X}"
        raise Refused(f"control character {character}; remove it", _end(text[: match.start()]))


def _end(text: str) -> Place:
    lines = re.split("\r\n|[\r\n\x85\u2028\u2029]", text)
    return Place(len(lines), len(lines[-1]) + 1)


def check_features(data: bytes) -> None:
    """Raise Refused at an anchor, an alias, a tag, a directive, or nesting beyond the limit.

    Bytes in which none of these can be are not parsed for it.
    """
    if not may_need_events(data):
        return
    levels = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        _refuse_feature(event)
        if isinstance(event, CollectionStartEvent):
            levels += 1
        elif isinstance(event, CollectionEndEvent):
            levels -= 1
        if levels > MOST_LEVELS:
            raise Refused(TOO_DEEP, place_of(event.start_mark))


TOO_DEEP = f"nested more than {MOST_LEVELS} levels deep"


def may_need_events(data: bytes) -> bool:
    """Whether a refused feature, or nesting that could exhaust the stack, may be in `data`.

    Every block level but those of "- " below a key needs its own column, every flow level its
    own bracket.
    """
    if any(sign in data for sign in _SIGNS) and _FEATURE.search(data):
        return True
    if sum(map(data.count, _BRACKETS)) > _SAFE_LINE_BYTES:
        return True
    return max(map(len, data.split(b"\n"))) > _SAFE_LINE_BYTES


def _refuse_feature(event: Event) -> None:
    if isinstance(event, AliasEvent):
        message = f"alias *{event.anchor}: aliases are not read; write the value out"
    elif isinstance(event, DocumentStartEvent) and (event.version or event.tags):
        message = "directives (%YAML, %TAG) are not read; remove the line"
    elif not isinstance(event, ScalarEvent | CollectionStartEvent):
        return
    elif event.anchor is not None:
        message = f"anchor &{event.anchor}: anchors are not read; remove it"
    elif event.tag is not None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        message = f"tag {shown(tag)}: tags are not read; write the value without one"
    else:
        return
    raise Refused(message, place_of(event.start_mark))


OPEN = "the list or mapping that begins here is not closed, or a comma is missing in it"
UNQUOTED = "the quoted text that begins here is not closed"
NO_COLON = 'a key without ":"; write `key: value`'
_AT_START = (OPEN, UNQUOTED, NO_COLON)
_HINTS = (
    ("cannot start any token", "\t", "a tab cannot stand here; indent with spaces"),
    ("cannot start any token", "", "{character} cannot start a value; put the value in quotes"),
    (
        "mapping values are not allowed",
        "",
        'a ":" cannot stand here; check the indentation, or put text that holds ": " in quotes',
    ),
    ("did not find expected key", "", "this line fits no level above; check the indentation"),
    (
        "did not find expected '-' indicator",
        "",
        "this line fits no level above; check the indentation, or begin the item with `- `",
    ),
    ("could not find expected ':'", "", NO_COLON),
    ("tab character that violates", "", "a tab cannot stand here; indent with spaces"),
    ("did not find expected ',' or", "", OPEN),
    ("found unexpected end of stream", "", UNQUOTED),
    ("found unexpected document indicator", "", "quoted text is not closed before `---`"),
    ("block sequence entries are not allowed", "", "`- ` cannot stand here; begin a new line"),
    ("found unknown escape character", "", "unknown escape in double quotes; use single quotes"),
    ("invalid Unicode character escape", "", "this escape names no character"),
    ("did not find expected hexdecimal number", "", "this escape needs hex digits"),
    ("did not find expected <document start>", "", "documents are separated by a line `---`"),
    ("did not find expected node content", "", "a value is missing here"),
    ("while scanning an anchor", "", "`&` cannot start a value; put the value in quotes"),
    ("while scanning an alias", "", "`*` cannot start a value; put the value in quotes"),
    ("block mapping end", "", "this line fits no level above; check the indentation"),
)


def explained(error: yaml.YAMLError, data: bytes) -> Refused:
    """Say in an operator's words what libyaml found."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    context = str(getattr(error, "context", None) or "")
    if mark is None:
        offset = int(getattr(error, "position", 0) or 0)
        return Refused(f"not YAML: {problem}", _end(data[:offset].decode(errors="replace")))
    place, character = min(place_of(mark), _end(data.decode())), _character(data, mark)
    for phrase, needed, hint in _HINTS:
        if phrase in f"{context} {problem}" and character.startswith(needed):
            start = getattr(error, "context_mark", None) if hint in _AT_START else None
            at = place_of(start) if start is not None else place
            return Refused(hint.format(character=shown(character)), at)
    return Refused(f"not YAML: {problem}", place)


def _character(data: bytes, mark: Mark) -> str:
    return data.decode(errors="replace")[mark.index : mark.index + 1]


class Composer(CParser):
    """libyaml's composer with nothing resolved: what a scalar means is ours to judge."""

    def resolve(self, kind: type, value: str, implicit: tuple[bool, bool]) -> str:
        """Give every node the same empty tag."""
        return ""

    def descend_resolver(self, parent: object, index: object) -> None:
        """Nothing to do: libyaml's hook for resolvers by path."""

    def ascend_resolver(self) -> None:
        """Nothing to do: libyaml's hook for resolvers by path."""
