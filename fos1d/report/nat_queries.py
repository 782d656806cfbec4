"""Requests for sessions and bindings: which are meant, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from fos1d.errors import Fos1Error
from fos1d.model.packet import PROTOCOLS
from fos1d.model.translated import Choice, Ends
from fos1d.report.desk import NatAnswer, NatQuery
from fos1d.report.http import Request
from fos1d.report.nat_views import listing_of
from fos1d.report.refusal import ApiRefusal

Json = dict[str, Any]
ENDS = ("inside", "outside", "far")
FILTERS = ("policy", "interface", "protocol", *ENDS)
LIMIT, MOST_LISTED = 1000, 100_000
HIGHEST_PORT, HIGHEST_PROTOCOL = 65535, 255


def translations_of(request: Request, ask: Callable[[NatQuery], NatAnswer]) -> Json:
    """Answer a GET: the query's parameters choose."""
    _known_only(request.query, (*FILTERS, "limit"))
    return listing_of(_asked(_query(request.query), ask))


def flush_of(request: Request, ask: Callable[[NatQuery], NatAnswer]) -> Json:
    """Answer a POST: the body chooses. Everything goes only if that is said: `all`."""
    body = request.json()
    if not isinstance(body, dict) or not body:
        raise ApiRefusal(400, 'say which: {"policy": …, "inside": …}, or {"all": true}')
    _known_only(body, (*FILTERS, "all"))
    fields = {name: value for name, value in body.items() if name != "all"}
    if bool(fields) == (body.get("all") is True):
        raise ApiRefusal(400, "say either all, or which")
    if not all(isinstance(value, str) for value in fields.values()):
        raise ApiRefusal(400, "every filter is a text")
    return listing_of(_asked(_query(fields), ask))


def _asked(query: NatQuery, ask: Callable[[NatQuery], NatAnswer]) -> NatAnswer:
    try:
        return ask(query)
    except ValueError as error:
        raise ApiRefusal(404, str(error)) from error
    except Fos1Error as error:
        raise ApiRefusal(503, f"the tables cannot be read now: {error}") from error


def _known_only(names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise ApiRefusal(400, f"unknown: {', '.join(unknown)[:200]}; known: {', '.join(known)}")


def _query(fields: Mapping[str, str]) -> NatQuery:
    ends = {name: _ends(name, fields.get(name, "")) for name in ENDS}
    choice = Choice(None, _protocol(fields.get("protocol", "")), **ends)
    most = _limit(fields.get("limit", ""))
    return NatQuery(choice, fields.get("policy", ""), fields.get("interface", ""), most)


def _limit(text: str) -> int:
    if not text:
        return LIMIT
    if not text.isdecimal() or int(text) > MOST_LISTED:
        raise ApiRefusal(400, f"limit must be a number from 0 to {MOST_LISTED}")
    return int(text)


def _protocol(text: str) -> int | None:
    if not text:
        return None
    if text.isdecimal() and int(text) <= HIGHEST_PROTOCOL:
        return int(text)
    if text not in PROTOCOLS:
        raise ApiRefusal(400, f'protocol: "{text[:40]}" is none of: {", ".join(PROTOCOLS)}')
    return PROTOCOLS[text]


def _ends(name: str, text: str) -> Ends:
    """Read `10.0.0.0/24`, `192.0.2.1:80`, `[2001:db8::1]:80`, `:80`, or an address alone."""
    host, port = text, ""
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        network = ip_network(host) if host else None
        number = int(port) if port else 0
    except ValueError as error:
        form = "ADDRESS[/BITS][:PORT], [ADDRESS]:PORT for IPv6, or :PORT"
        raise ApiRefusal(400, f"{name}: {error}; it must be {form}") from error
    if number not in range(HIGHEST_PORT + 1):
        raise ApiRefusal(400, f"{name}: a port is at most {HIGHEST_PORT}")
    return Ends(network, number)
