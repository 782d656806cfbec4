"""Types of fields: each turns what stands in a manifest into a value that needs no more checks.

Belongs here: types that several kinds use, each with its JSON Schema. What parses them raises
ValueError with the whole message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

from fos1d.kinds import addresses, names
from fos1d.kinds.services import PORTS
from fos1d.manifest import did_you_mean
from fos1d.quantity import (
    MOST,
    PortRange,
    duration_ns,
    port_range,
    rate_bits_per_s,
    shown,
    shown_number,
    size_bytes,
)

T = TypeVar("T")

MOST_U32 = (1 << 32) - 1


class NotNull:
    """Strips `None` from a field's type: the field may be absent, but not written as null."""

    def __get_pydantic_core_schema__(self, source: Any, build: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema without its `nullable` shell."""
        schema: dict[str, Any] = dict(build(source))
        inner: CoreSchema = schema["schema"]
        return inner


class OrAlone:
    """Lets a list of one item be written without the list."""

    def __get_pydantic_core_schema__(self, source: Any, build: GetCoreSchemaHandler) -> CoreSchema:
        """Return the list's schema, with a lone item put into a list first."""
        return core_schema.no_info_before_validator_function(_listed, build(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, build: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON Schema of the item or the list."""
        schema = build(core)
        return {"anyOf": [schema["items"], schema]}


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Maybe = Annotated[T | None, NotNull()]
Listed = Annotated[tuple[T, ...], Strict(False)]
AtLeastOne = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]
OneOrMore = Annotated[tuple[T, ...], Strict(False), Field(min_length=1), OrAlone()]


@dataclass(frozen=True, eq=False)
class Parsed:
    """Annotates a type that `parse` makes of text, or of text and whole numbers."""

    parse: Callable[[Any], Any]
    what: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    takes: type | tuple[type, ...] = str

    def validate(self, value: Any) -> Any:
        """Return what `value` means."""
        if isinstance(value, self.takes) and not isinstance(value, bool):
            return self.parse(value)
        raise ValueError(self._wrong_sort(value))

    def _wrong_sort(self, value: object) -> str:
        if value is None:
            return f"has no value; it must be {self.what}"
        quotes = f"; write {shown(value)} with the quotes" if type(value) is int else ""
        return f"must be {self.what}, not {sort_of(value)}{quotes if self.takes is str else ''}"

    def __get_pydantic_core_schema__(self, source: Any, build: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that calls `validate` and nothing else."""
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, build: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON Schema for editors."""
        return {"type": "string", **self.schema} if self.takes is str else dict(self.schema)


def sort_of(value: object) -> str:
    """Say what a value is, in a manifest's words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the number {shown_number(value)}"
        case str():
            return f"the text {shown(value)}"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


NUMBER_OR_TEXT = (int, str)


def within(least: int, most: int, number: int) -> int:
    """Return `number` if it is within both bounds."""
    if number < least:
        raise ValueError(f"{shown_number(number)} is too small; it must be {least} or more")
    if number > most:
        raise ValueError(f"{shown_number(number)} is too large; it must be {most} or less")
    return number


def _rate(value: str | int) -> int:
    bits_per_s = rate_bits_per_s(str(value))
    if bits_per_s == 0:
        raise ValueError(f"{shown(value)} lets nothing pass; a rate is at least 1bit")
    return bits_per_s


def _bits_per_s(value: str | int) -> int:
    return within(1, MOST, value) if isinstance(value, int) else _rate(value)


def _size(value: str | int) -> int:
    return within(1, MOST_U32, size_bytes(value))


def _time(value: str | int) -> int:
    time_ns = duration_ns(str(value))
    if time_ns == 0:
        raise ValueError(f"{shown(value)} is no time; it must be above zero")
    return time_ns


def service_port(value: str | int) -> int:
    """Return the number of a port that is given by number or by service name."""
    if isinstance(value, int):
        return within(1, 65535, value)
    if re.fullmatch("[0-9]+", value, re.ASCII):
        raise ValueError(f"{shown(value)} is text; write the number without quotes")
    if re.fullmatch("[0-9]+-[0-9]+", value, re.ASCII):
        raise ValueError(f"{shown(value)} is a range; write its first in port, its last in endPort")
    if (port := PORTS.get(value.lower())) is None:
        hint = did_you_mean(value, PORTS) or ";"
        raise ValueError(f"no service is known as {shown(value)}{hint} write the port's number")
    return port


_RATE = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([kKmMgGtT][iI]?)?[bB][iI][tT]$"}
_SIZE = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([kKmMgG]?[bB])?$"}
_TIME = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?[uUmM]?[sS]$"}
_RANGE = {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_POSITIVE = {"type": "integer", "minimum": 1}
_SERVICE = {"type": "string", "enum": sorted(PORTS)}


def _any_of(*schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


RateBits = Annotated[int, Parsed(_rate, "a rate such as 100Mbit", _RATE, NUMBER_OR_TEXT)]
BitsPerSecond = Annotated[
    int,
    Parsed(_bits_per_s, "a number of bits per second", _any_of(_POSITIVE, _RATE), NUMBER_OR_TEXT),
]
SizeBytes = Annotated[
    int, Parsed(_size, "a size such as 15kb", _any_of(_POSITIVE, _SIZE), NUMBER_OR_TEXT)
]
TimeNs = Annotated[int, Parsed(_time, "a time such as 50ms", _TIME, NUMBER_OR_TEXT)]
Ports = Annotated[
    PortRange,
    Parsed(
        port_range, 'a port or a range such as "8000-8099"', _any_of(_PORT, _RANGE), NUMBER_OR_TEXT
    ),
]
ServicePort = Annotated[
    int,
    Parsed(
        service_port, "a port number or a service name", _any_of(_PORT, _SERVICE), NUMBER_OR_TEXT
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Dscp = Annotated[int, Field(ge=0, le=63)]
Mark = Annotated[int, Field(ge=0, le=MOST_U32)]
Count = Annotated[int, Field(ge=1, le=MOST_U32)]
Priority = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]

_NETWORK = {"examples": ["10.0.0.0/8", "2001:db8::/32"]}
HostAddress = Annotated[
    addresses.Address, Parsed(addresses.address, "an address", {"examples": ["192.0.2.1"]})
]
Cidr = Annotated[addresses.Network, Parsed(addresses.cidr, "a network", _NETWORK)]
HostOrCidr = Annotated[
    addresses.Network, Parsed(addresses.network, "an address or a network", _NETWORK)
]
ListedSource = Annotated[
    addresses.Network, Parsed(addresses.listed_source, "an address or a network", _NETWORK)
]


def _like(pattern: re.Pattern[str], longest: int) -> dict[str, Any]:
    return {"pattern": f"^{pattern.pattern}$", "maxLength": longest}


Name = Annotated[
    str,
    Parsed(names.resource_name, "a name", _like(names.SUBDOMAIN, names.LONGEST_NAME)),
]
NamespaceName = Annotated[
    str,
    Parsed(names.namespace, "a name space", _like(names.LABEL, names.LONGEST_LABEL)),
]
Interface = Annotated[
    names.InterfaceName,
    Parsed(names.interface_name, "an interface's name", {"examples": ["eth0"]}),
]
Interfaces = Annotated[
    names.InterfacePattern,
    Parsed(names.interface_pattern, "an interface's name", {"examples": ["eth0", "eth*"]}),
]
File = Annotated[
    names.FileReference,
    Parsed(names.file_reference, "a file's path", {"examples": ["lists/bad.netset"]}),
]
Function = Annotated[names.FunctionName, Parsed(names.function_name, "a function's name")]
Cgroup = Annotated[
    PurePosixPath, Parsed(names.cgroup_path, "a path", {"examples": ["system.slice"]})
]
