"""/etc/fos1d/fos1d.toml: every setting, its type and its default.

Every key may be left out, and so may the file. All that is wrong is reported at once, each with
its line. docs/reference/settings.md explains the keys to people; a test keeps the two together.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails

from fos1d import abi
from fos1d.errors import SettingsError
from fos1d.manifest.suggest import did_you_mean
from fos1d.model.facts import FastPath
from fos1d.model.failsafe import Direction, FailsafePort, Transport

DEFAULT_PATH = Path("/etc/fos1d/fos1d.toml")


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Passes if a TCP connection opens: `tcp:198.51.100.1:22`, `tcp:[2001:db8::1]:22`."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class NeighbourProbe:
    """Passes if a neighbour answers: `neighbour:default` (the default gateway), or an address."""

    address: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class SourceProbe:
    """Passes if the source can be read: `source`."""


Probe = TcpProbe | NeighbourProbe | SourceProbe

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SHORTEST = timedelta(milliseconds=100)
_TCP = re.compile(r"tcp:(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:]+)):(?P<port>\d{1,5})")
_LISTEN = re.compile(r"|unix:/.+|(?:\[[0-9a-fA-F:]+\]|[0-9.]+):\d{1,5}")


def parse_duration(value: object) -> timedelta:
    """Return the time that "60s", "500ms", "5m" or "2h" names."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number with a unit (ms, s, m, h) in quotes, such as "60s"')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def parse_failsafe_port(value: object) -> FailsafePort:
    """Return the port that "in:tcp:22" names."""
    try:
        direction, protocol, port = str(value).split(":")
        return FailsafePort(Direction(direction), Transport(protocol), _port(port))
    except ValueError:
        raise ValueError('must be in|out:tcp|udp:port, such as "in:tcp:22"') from None


def _not_too_many(ports: tuple[FailsafePort, ...]) -> tuple[FailsafePort, ...]:
    if len(ports) > abi.Size.FAILSAFE_PORTS:
        raise ValueError(f"has {len(ports)} ports; at most {abi.Size.FAILSAFE_PORTS:d} fit")
    return ports


def parse_probe(value: object) -> Probe:
    """Return the probe that a word such as "tcp:198.51.100.1:22" names."""
    text = str(value)
    try:
        if text == "source":
            return SourceProbe()
        if text.startswith("neighbour:"):
            target = text.removeprefix("neighbour:")
            return NeighbourProbe(None if target == "default" else ip_address(target))
        if match := _TCP.fullmatch(text):
            return TcpProbe(ip_address(match["six"] or match["four"]), _port(match["port"]))
    except ValueError:
        pass
    raise ValueError(
        'must be "source", "neighbour:default", "neighbour:ADDRESS" or "tcp:ADDRESS:PORT"'
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError("must be a port from 1 to 65535")
    return int(text)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, such as /etc/fos1d/policy")
    return path


def _mount(value: object) -> Path | Literal["auto"]:
    if value == "auto":
        return "auto"
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError('must be "auto" or the absolute path of a cgroup2 mount')
    return Path(value)


def _not_at_once(duration: timedelta) -> timedelta:
    if duration < _SHORTEST:
        raise ValueError("must be 100ms or longer")
    return duration


def _listener(text: str) -> str:
    if _LISTEN.fullmatch(text) is None:
        raise ValueError('must be "address:port", "unix:/path", or "" for none')
    return text


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Interval = Annotated[Duration, AfterValidator(_not_at_once)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Whole = Annotated[int, Field(strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Node(_Section):
    """[node]: who this router is, for nodeSelector."""

    name: Annotated[str, Field(min_length=1)] = Field(default_factory=socket.gethostname)
    labels: dict[str, str] = {}


class Source(_Section):
    """[source]: where the manifests come from."""

    type: Literal["directory", "git"] = "directory"
    path: AbsolutePath = Path("/etc/fos1d/policy")
    url: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    branch: Annotated[str, Field(min_length=1)] = "main"
    subpath: str = ""
    interval: Interval = timedelta(seconds=60)
    verify: Literal["none", "ssh", "gpg"] = "none"
    allowed_signers: AbsolutePath = Path("/etc/fos1d/allowed_signers")


class Paths(_Section):
    """[paths]: where things are kept."""

    bpffs: AbsolutePath = Path("/sys/fs/bpf/fos1")
    state: AbsolutePath = Path("/var/lib/fos1d")
    runtime: AbsolutePath = Path("/run/fos1d")
    cgroup: Annotated[Path | Literal["auto"], PlainValidator(_mount)] = "auto"
    workloads: AbsolutePath = Path("/etc/fos1d/workloads.d")

    @property
    def cgroup_mount(self) -> Path | None:
        """The cgroup2 mount as it was set; None: look for it."""
        return None if self.cgroup == "auto" else Path(self.cgroup)


class Reconcile(_Section):
    """[reconcile]: how passes are made and what guards them."""

    resync: Interval = timedelta(seconds=60)
    confirm_timeout: Duration = timedelta(0)
    probes: tuple[Annotated[Probe, BeforeValidator(parse_probe)], ...] = ()
    failsafe_ports: Annotated[
        tuple[Annotated[FailsafePort, BeforeValidator(parse_failsafe_port)], ...],
        AfterValidator(_not_too_many),
    ] = (FailsafePort(Direction.IN, Transport.TCP, 22),)
    prune_limit_percent: Annotated[Whole, Field(ge=0, le=100)] = 50


class Metrics(_Section):
    """[metrics]: where metrics can be read."""

    listen: Annotated[str, AfterValidator(_listener)] = ""


class Kernel(_Section):
    """[kernel]: how the kernel is used."""

    tc_attach: Literal["auto", "tcx", "clsact"] = "auto"
    fast_path: FastPath = FastPath.AUTO
    max_flows: Annotated[Whole, Field(ge=1, le=1 << 26)] = 65536


class Settings(_Section):
    """All settings."""

    node: Node = Field(default_factory=Node)
    source: Source = Source()
    paths: Paths = Paths()
    reconcile: Reconcile = Reconcile()
    metrics: Metrics = Metrics()
    kernel: Kernel = Kernel()


_NOT_YET: dict[str, Callable[[Settings], bool]] = {
    "source.url": lambda settings: bool(settings.source.url),
    "source.verify": lambda settings: settings.source.verify != "none",
    "reconcile.confirm_timeout": lambda settings: bool(settings.reconcile.confirm_timeout),
    "reconcile.probes": lambda settings: bool(settings.reconcile.probes),
    "metrics.listen": lambda settings: bool(settings.metrics.listen),
}
"""Settings of features that are still to come: better refused than silently without effect."""


def load(path: Path | None = None) -> Settings:
    """Read the settings file; without `path` the default one, which may be missing.

    Raises SettingsError that lists everything wrong in it, a line each.
    """
    try:
        text = (path or DEFAULT_PATH).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if path is None:
            return Settings()
        raise SettingsError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path or DEFAULT_PATH}: cannot be read: {error}") from error
    return parse(text, str(path or DEFAULT_PATH))


def parse(text: str, name: str) -> Settings:
    """Return the settings that `text` holds; `name` stands for it in errors."""
    try:
        settings = Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_placed_syntax_error(name, str(error))) from error
    except ValidationError as error:
        wrong = [_explained(finding) for finding in error.errors()]
        raise SettingsError(_placed(text, name, wrong)) from error
    unsupported = [
        (key, "is not supported by this version: remove it")
        for key, is_used in _NOT_YET.items()
        if is_used(settings)
    ]
    if unsupported:
        raise SettingsError(_placed(text, name, unsupported))
    return settings


def _explained(finding: ErrorDetails) -> tuple[str, str]:
    """Return the key that a finding is about, and what is wrong there."""
    where = [str(part) for part in finding["loc"]]
    key = ".".join(where)
    match finding["type"]:
        case "extra_forbidden":
            known = _known_keys(where[:-1])
            return key, f"unknown key{did_you_mean(where[-1], known)} (known: {', '.join(known)})"
        case "value_error":
            return key, f"{finding['ctx']['error']}; it is {_shown(finding['input'])}"
        case kind:
            said = _PLAIN.get(kind) or finding["msg"].replace("Input should be", "must be")
            return key, f"{said}; it is {_shown(finding['input'])}"


_PLAIN = {
    "string_type": "must be text, in quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number, without quotes",
    "path_type": "must be a path, in quotes",
    "tuple_type": "must be a list, in square brackets",
    "dict_type": 'must be a table, such as { site = "fra" }',
    "model_type": "must be a table, in square brackets on a line of its own",
}


def _known_keys(section: list[str]) -> list[str]:
    model: Any = Settings
    for part in section:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _placed(text: str, name: str, findings: list[tuple[str, str]]) -> str:
    """Return one line for each finding, in the order of the file."""
    lines = sorted((line_of(text, key), key, message) for key, message in findings)
    return "\n".join(f"{name}:{line}: {key}: {message}" for line, key, message in lines)


def _placed_syntax_error(name: str, message: str) -> str:
    match = re.search(r" \(at line (\d+), column (\d+)\)", message)
    if match is None:
        return f"{name}: {message}"
    return f"{name}:{match[1]}:{match[2]}: {message.replace(match[0], '')}"


def line_of(text: str, key: str) -> int:
    """Return the line, from 1, of a dotted key, or of the nearest part of it that has a line."""
    lines = dict(_keys(text))
    parts = key.split(".")
    while parts:
        if line := lines.get(".".join(parts)):
            return line
        parts.pop()
    return 1


def _keys(text: str) -> Iterator[tuple[str, int]]:
    """Yield the dotted keys and tables of a TOML document with their lines, by a simple scan."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\s*([\w.\s\"'-]+?)\s*\]", line):
            table = _plain(match[1])
            yield table, number
        elif match := re.match(r"\s*([\w.\s\"'-]+?)\s*=", line):
            yield (f"{table}.{_plain(match[1])}" if table else _plain(match[1])), number


def _plain(key: str) -> str:
    """Return a key without quotes and spaces."""
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
