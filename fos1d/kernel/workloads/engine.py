"""Container engines: their HTTP API over a unix socket, which docker defined and podman speaks."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fos1d.kernel.workloads.identify import Container
from fos1d.kinds.names import namespace
from fos1d.model.workload import Provider

SOCKETS = (
    (Provider.PODMAN, "run/podman/podman.sock"),
    (Provider.DOCKER, "run/docker.sock"),
    (Provider.PODMAN, "run/user/*/podman/podman.sock"),
    (Provider.DOCKER, "run/user/*/docker.sock"),
)
NAMESPACE_LABELS = ("fos1.io/namespace", "io.kubernetes.pod.namespace")
ANSWER_S = 2.0
MOST_BYTES = 16 << 20
# Podman gives all that it knows for every state; of containers that ended there is no cgroup.
LIST = "/v1.40/containers/json?all=true"
_WANTED = json.dumps({"type": ["container", "network"]}, separators=(",", ":"))
EVENTS = f"/v1.40/events?filters={quote(_WANTED)}"


class EngineError(Exception):
    """An engine does not answer, or not as it should."""


@dataclass(frozen=True, slots=True, order=True)
class Engine:
    """An engine by its socket; `owner` is the user id that the socket belongs to."""

    provider: Provider
    place: Path
    owner: int = 0

    def containers(self) -> tuple[Container, ...]:
        """List the containers.

        Raises EngineError.
        """
        with _answer(self, LIST, ANSWER_S) as answer:
            data = answer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise EngineError(f"{self.place}: the list of containers is too long")
        try:
            return tuple(self._container(item) for item in json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EngineError(f"{self.place}: its list cannot be read: {error!r}") from error

    def _container(self, item: Mapping[str, Any]) -> Container:
        labels = {str(key): str(value) for key, value in (item.get("Labels") or {}).items()}
        networks = ((item.get("NetworkSettings") or {}).get("Networks") or {}).values()
        identity = str(item["Id"])
        names = item.get("Names") or [identity[:12]]
        return Container(
            identity,
            str(names[0]).removeprefix("/"),
            self.provider,
            self.owner,
            _namespace(labels),
            labels,
            tuple(_addresses(networks)),
            tuple(str(n["MacAddress"]) for n in networks if n.get("MacAddress")),
        )

    def follow(self, heard: Callable[[], None], opened: Callable[[socket.socket], None]) -> None:
        """Call `heard` for each event until the engine ends the stream.

        `opened` is given the connection, to shut it down from elsewhere. Raises EngineError.
        """
        with _answer(self, EVENTS, None, opened) as answer:
            try:
                while answer.readline(MOST_BYTES):
                    heard()
            except (OSError, http.client.HTTPException) as error:
                raise EngineError(f"{self.place}: {error}") from error


def engines(root: Path, sockets: Sequence[tuple[Provider, str]] = SOCKETS) -> Iterator[Engine]:
    """Yield the engines whose sockets are there and can be seen."""
    for provider, pattern in sockets:
        for place in sorted(root.glob(pattern)):
            try:
                if place.is_socket():
                    yield Engine(provider, place, place.stat().st_uid)
            except OSError:
                continue


def _namespace(labels: Mapping[str, str]) -> str:
    for key in NAMESPACE_LABELS:
        try:
            return namespace(labels[key])
        except (KeyError, ValueError):
            continue
    return ""


def _addresses(networks: Any) -> Iterator[IPv4Address | IPv6Address]:
    for network in networks:
        for key in ("IPAddress", "GlobalIPv6Address"):
            if text := network.get(key):
                yield ip_address(text)


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, place: Path, timeout_s: float | None) -> None:
        super().__init__("localhost")
        self._place, self._timeout_s = place, timeout_s

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(os.fsencode(self._place))
        self.sock.settimeout(self._timeout_s)


class _Answer:
    """An answer whose connection closes with its block."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response

    def __enter__(self) -> http.client.HTTPResponse:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()


def _answer(
    engine: Engine,
    path: str,
    timeout_s: float | None,
    opened: Callable[[socket.socket], None] = lambda _: None,
) -> _Answer:
    connection = _Connection(engine.place, timeout_s)
    try:
        connection.connect()
        opened(connection.sock)
        connection.request("GET", path)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise EngineError(f"{engine.place}: {error or type(error).__name__}") from error
    if response.status != 200:
        connection.close()
        raise EngineError(f"{engine.place}: {path} was answered with {response.status}")
    return _Answer(connection, response)
