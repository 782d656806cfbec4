"""The API's client: HTTP over the daemon's unix socket.

Written out, since http.client takes longer to import (it brings ssl and email) than all else that
`fos1ctl get` does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from fos1d.cli.exits import Exit, Stop
from fos1d.model.identity import API_VERSION

DEFAULT_CONFIG = "/etc/fos1d/fos1d.toml"
DEFAULT_RUNTIME = "/run/fos1d"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
TIMEOUT_S = 30.0

_EXITS = {400: Exit.USAGE, 403: Exit.REFUSED, 405: Exit.REFUSED, 409: Exit.REFUSED}
_LATER = {429: Exit.UNREACHABLE, 501: Exit.USAGE, 503: Exit.UNREACHABLE}


class Unreachable(Stop):
    """The daemon does not answer, or not any more."""

    def __init__(self, path: Path, why: str) -> None:
        said = f"fos1d cannot be reached at {path} ({why}); is it running? systemctl status fos1d"
        super().__init__(Exit.UNREACHABLE, said)


class NotPermitted(Stop):
    """The socket may not be opened."""

    def __init__(self, path: Path) -> None:
        said = f"you may not use {path}: become root, or a member of group fos1"
        super().__init__(Exit.REFUSED, said)


class Refused(Stop):
    """The daemon answered no. `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        code = (_EXITS | _LATER).get(status, Exit.DIFFERS)
        super().__init__(code, message)
        self.status = status


def find_socket(named: str | None, environment: Mapping[str, str] | None = None) -> Path:
    """Return the daemon's socket: as named, else FOS1_SOCKET, else what the settings say."""
    found = os.environ if environment is None else environment
    if path := named or found.get("FOS1_SOCKET"):
        return Path(path)
    return Path(_runtime(found.get("FOS1_CONFIG", DEFAULT_CONFIG))) / "api.sock"


def _runtime(config: str) -> str:
    try:
        with Path(config).open("rb") as file:
            import tomllib

            runtime = tomllib.load(file).get("paths", {}).get("runtime")
    except (OSError, ValueError, AttributeError):
        return DEFAULT_RUNTIME
    return runtime if isinstance(runtime, str) and runtime else DEFAULT_RUNTIME


def collection(plural: str, namespace: str | None, name: str = "") -> str:
    """Return the path of a kind's resources, or of one of them."""
    place = f"namespaces/{quote(namespace, safe='')}/" if namespace is not None else ""
    end = f"/{quote(name, safe='')}" if name else ""
    return f"/apis/{API_VERSION}/{place}{plural}{end}"


@dataclass(slots=True)
class Client:
    """A connection to the daemon, opened when it is first needed. Every method raises Stop."""

    path: Path
    _stream: BinaryIO | None = None

    def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "*/*") -> Any:
        """Return what is at `path`."""
        return self._ask("GET", path, query or {}, accept, b"", TIMEOUT_S)

    def post(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Ask for something to be done."""
        data = json.dumps(body).encode() if body is not None else b""
        return self._ask("POST", path, query or {}, "*/*", data, timeout_s)

    def watch(
        self, path: str, query: Mapping[str, str], accept: str = "*/*", timeout_s: float = 3600.0
    ) -> Iterator[Any]:
        """Yield what changes, until the daemon ends it after `timeout_s`."""
        self.close()
        wanted = {**query, "watch": "1", "timeoutSeconds": f"{timeout_s:.3f}"}
        # The daemon ends the watch; a margin tells that from a daemon that hangs.
        stream = self._send("GET", path, wanted, accept, b"", timeout_s + TIMEOUT_S)
        try:
            status, headers = _read_head(stream)
            if status != 200:
                _raise(status, _read_body(stream, headers))
            yield from (json.loads(line) for line in _lines(stream))
        except (OSError, ValueError) as error:
            raise Unreachable(self.path, f"it ended the watch: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        body: bytes,
        timeout_s: float,
    ) -> Any:
        try:
            stream = self._send(method, path, query, accept, body, timeout_s)
            status, headers = _read_head(stream)
            data = _read_body(stream, headers)
            if headers.get("connection") == "close":
                self.close()
        except TimeoutError as error:
            raise Unreachable(self.path, f"no answer within {timeout_s:g} s") from error
        except (OSError, ValueError) as error:
            raise Unreachable(self.path, str(error) or "it went away") from error
        return json.loads(data) if status < 400 else _raise(status, data)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        body: bytes,
        timeout_s: float,
    ) -> BinaryIO:
        target = f"{path}?{urlencode(query)}" if query else path
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: fos1d\r\nAccept: {accept}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        if self._stream is None:
            self._stream = self._connect(timeout_s)
        try:
            self._stream.write(head.encode() + body)
            self._stream.flush()
        except BrokenPipeError:
            pass  # it has answered already, without waiting for the body
        return self._stream

    def _connect(self, timeout_s: float) -> BinaryIO:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self.path))
        except PermissionError as error:
            raise NotPermitted(self.path) from error
        except OSError as error:
            raise Unreachable(self.path, error.strerror or str(error)) from error
        stream: BinaryIO = connection.makefile("rwb")  # type: ignore[assignment]
        connection.close()  # the stream keeps it open
        return stream


def _read_head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    first = stream.readline(1000).split()
    if len(first) < 2 or not first[0].startswith(b"HTTP/1."):
        raise ValueError("it went away" if not first else "what answers there is not fos1d")
    headers = {}
    while (line := stream.readline(8192).strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip().lower()
    return int(first[1]), headers


def _read_body(stream: BinaryIO, headers: Mapping[str, str]) -> bytes:
    length = int(headers.get("content-length", "0"))
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("it went away in the middle of an answer")
    return data


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a chunked body. A chunk holds whole lines."""
    while size := int(stream.readline(100).strip() or b"-1", 16):
        data = stream.read(size + 2) if size > 0 else b""
        if len(data) < size + 2 or size < 0:
            raise ValueError("it went away")
        yield from data[:-2].splitlines()


def _raise(status: int, data: bytes) -> Any:
    try:
        message = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        message = data.decode("utf-8", "replace").strip() or f"HTTP {status}"
    raise Refused(status, message)
