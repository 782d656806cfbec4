"""HTTP/1.1 as far as the API needs it, over asyncio streams: heads, bodies, chunks, limits."""

from __future__ import annotations

import json
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from fos1d.report.refusal import ApiRefusal, failure

MOST_HEAD_BYTES = 16 << 10
MOST_HEADERS = 64
MOST_PARAMETERS = 32
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head, and its body once that is read. `segments` are the path's parts."""

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    keep_alive: bool = True
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The path as people write it."""
        return "/" + "/".join(self.segments)

    def asks(self, name: str) -> bool:
        """Whether a query parameter is there and true."""
        return self.query.get(name, "").lower() in ("1", "true", "yes")

    def seconds(self, name: str, default: float, most: float) -> float:
        """Return a query parameter as seconds. Raises ApiRefusal (400)."""
        text = self.query.get(name, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise ApiRefusal(400, f'{name}: "{text[:40]}" must be seconds, from 0 to {most:.0f}')
        return value

    def json(self) -> Any:
        """Return the body's content, None for an empty body. Raises ApiRefusal (400)."""
        try:
            return json.loads(self.body) if self.body.strip() else None
        except (ValueError, RecursionError):
            raise ApiRefusal(400, "the body must be JSON, or empty") from None


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered. `close`: the connection cannot be used any more."""

    code: int
    body: bytes = field(repr=False)
    type: str = JSON_TYPE
    close: bool = False

    def to_bytes(self, keep_alive: bool) -> bytes:
        """Return the response as it goes out."""
        return b"".join(
            (
                _status_line(self.code),
                f"Content-Type: {self.type}\r\nContent-Length: {len(self.body)}\r\n".encode(),
                b"Cache-Control: no-store\r\n",
                b"\r\n" if keep_alive and not self.close else b"Connection: close\r\n\r\n",
                self.body,
            )
        )


def as_json(content: object, code: int = 200) -> Response:
    """Return a response that holds JSON."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(code, text.encode("utf-8", "surrogatepass") + b"\n")


def as_text(text: str, code: int = 200) -> Response:
    """Return a response that holds text."""
    return Response(code, text.encode() + b"\n", TEXT_TYPE)


def refused(refusal: ApiRefusal, close: bool = False) -> Response:
    """Return a refusal as a Status object."""
    answer = as_json(refusal.to_json(), refusal.code)
    return Response(answer.code, answer.body, close=close)


def failed(error: Exception) -> Response:
    """Return what is said of a fault of our own."""
    message = f"{type(error).__name__}: {error}"
    return as_json(failure(500, message), 500)


def stream_head() -> bytes:
    """Return the head of a response that comes in chunks."""
    return (
        _status_line(200) + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )


def chunk(data: bytes) -> bytes:
    """Return data as a chunk; an empty one ends the response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _status_line(code: int) -> bytes:
    return f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\n".encode()


async def read_head(reader: StreamReader) -> Request | None:
    """Read a request's head; return None where the client has gone.

    Raises ApiRefusal for what is no HTTP, or too large.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as error:
        if error.partial.strip():
            raise ApiRefusal(400, "the request ends within its head") from None
        return None
    except LimitOverrunError:
        raise ApiRefusal(431, f"the head is larger than {MOST_HEAD_BYTES} bytes") from None
    return parse_head(head)


def parse_head(head: bytes) -> Request:
    """Return the request that a head describes. Raises ApiRefusal."""
    first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    method, target, version = _request_line(first)
    headers = _headers(lines)
    try:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS))
    except ValueError as error:
        raise ApiRefusal(400, f"the path cannot be read: {error}") from error
    segments = tuple(unquote(part) for part in url.path.split("/") if part)
    close = headers.get("connection", "").lower() == "close" or version == "HTTP/1.0"
    return Request(method, segments, query, headers, not close)


def _request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[1].startswith("/"):
        raise ApiRefusal(400, "this is no HTTP request")
    if parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise ApiRefusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return parts[0], parts[1], parts[2]


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise ApiRefusal(431, f"more than {MOST_HEADERS} headers")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ApiRefusal(400, "a header is no `Name: value`")
        headers[name.lower()] = value.strip()
    return headers


def body_length(request: Request, most: int) -> int:
    """Return how many bytes of body follow the head. Raises ApiRefusal."""
    if "transfer-encoding" in request.headers:
        raise ApiRefusal(411, "send the body with a Content-Length, not in chunks")
    text = request.headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiRefusal(400, "Content-Length is no number")
    if int(text) > most:
        raise ApiRefusal(413, f"the body is larger than {most} bytes")
    return int(text)
