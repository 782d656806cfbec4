"""docs/reference/api.md and docs/operate/journal.md say what is so.

With UPDATE=1 in the environment the answers in api.md are written anew; read what changes.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket as sockets
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fos1d.report.api import ApiServer
from fos1d.report.connections import Limits
from fos1d.report.daemon_views import About
from fos1d.report.http import MOST_HEAD_BYTES, parse_head
from fos1d.report.journal import Priority, journal_fields, message_id
from fos1d.report.orders import MOST_BODY_BYTES, MOST_PLAN_BYTES
from fos1d.report.refusal import REASONS, ApiRefusal
from fos1d.report.routes import Service, read
from tests.fake_desk import NOW, FakeDesk

DOCS = Path(__file__).parents[2] / "docs"
API = DOCS / "reference" / "api.md"
JOURNAL = DOCS / "operate" / "journal.md"
ANSWER = re.compile(r"<!-- answer: (?P<path>\S+) -->\n```json\n(?P<text>.*?)```", re.S)
CURL = re.compile(r"^curl --unix-socket /run/fos1d/api.sock .*$", re.M)


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    server = ApiServer(tmp_path / "api.sock", FakeDesk(), clock=lambda: NOW)
    server.start()
    yield tmp_path / "api.sock"
    server.stop()


def _fresh(block: re.Match[str]) -> str:
    service = Service(FakeDesk(), About("text", 4711), lambda: NOW)
    try:
        said = json.loads(read(parse_head(f"GET {block['path']} HTTP/1.1".encode()), service).body)
    except ApiRefusal as refusal:
        said = refusal.to_json()
    return f"<!-- answer: {block['path']} -->\n```json\n{json.dumps(said, indent=2)}\n```"


def test_the_answers_are_those_that_come() -> None:
    text = API.read_text(encoding="utf-8")
    fresh = ANSWER.sub(_fresh, text)
    if os.environ.get("UPDATE"):
        API.write_text(fresh, encoding="utf-8")
    assert text == fresh
    assert len(ANSWER.findall(text)) == 3


def test_every_example_is_answered(socket: Path) -> None:
    commands = CURL.findall(API.read_text(encoding="utf-8"))
    assert len(commands) > 20
    for command in commands:
        assert _asked(shlex.split(command), socket) < 400, command


def _asked(words: list[str], socket: Path) -> int:
    """Return the code of the answer to a curl command; curl itself need not be there."""
    method, body, headers = "GET", None, {}
    url = next(word for word in words if word.startswith("http://fos1d"))
    for option, value in pairwise(words):
        match option:
            case "-X":
                method = value
            case "-d":
                method, body = "POST", value
            case "-H":
                name, _, content = value.partition(": ")
                headers[name] = content
            case _:
                pass
    connection = http.client.HTTPConnection("fos1d")
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(str(socket))
    connection.request(method, url.removeprefix("http://fos1d"), body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_every_code_is_explained() -> None:
    text = API.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \|", text, re.M)
    assert {int(code) for row in rows for code in row.split(",")} == set(REASONS)


def test_the_limits_are_those_that_are_kept() -> None:
    text = " ".join(API.read_text(encoding="utf-8").split())
    limits = Limits()
    sizes = (MOST_HEAD_BYTES >> 10, MOST_BODY_BYTES >> 10, MOST_PLAN_BYTES >> 20)
    assert "heads {} KiB, bodies {} KiB, of a plan {} MiB".format(*sizes) in text
    assert f"{limits.connections} connections may be open, {limits.watches} of them" in text
    assert f"closed after {limits.idle_s:.0f} seconds" in text
    assert f"not read its answer after {limits.write_s:.0f}." in text


def test_message_ids() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \| `([0-9a-f]{32})` \|$", JOURNAL.read_text(), re.M)
    assert len(rows) > 15
    for reason, shown in rows:
        assert shown == message_id(reason)


def test_every_field_is_explained() -> None:
    named = "reason kind namespace name node revision source_file source_line action count"
    text = JOURNAL.read_text(encoding="utf-8")
    for field in journal_fields(
        Priority.INFO, dict.fromkeys((*named.split(), "detail", "detail_file"), "x")
    ):
        assert f"`{field}`" in text
