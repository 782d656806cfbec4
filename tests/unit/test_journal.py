"""The log in its three forms, and what systemd is told."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fos1d.errors import SettingsError
from fos1d.model.identity import Origin, ResourceId
from fos1d.report.details import MOST_FILES, DetailFiles
from fos1d.report.events import Event, Events, EventType
from fos1d.report.journal import (
    MOST_MESSAGE,
    Format,
    Log,
    choose_format,
    end_of,
    message_id,
)
from fos1d.report.notify import Notifier, watchdog_interval_s
from tests.fake_desk import COMMIT, FILTER, NOW

EVENT = Event(
    EventType.WARNING,
    "DriftHealed",
    "attachment eth0 xdp was changed and is set right",
    FILTER,
    COMMIT,
    NOW - 60,
    NOW,
    3,
    Origin("policy/edge.yaml", 12),
    "replace attachment eth0 xdp",
)
LONG = "".join(f"{n}: (bf) r{n % 10} = r1\n" for n in range(20_000)) + "invalid access\n"


def lines_of(form: Format, *events: Event, details: DetailFiles | None = None) -> str:
    """Return what a log writes about events."""
    stream = io.StringIO()
    log = Log(form, "edge-1", details, lambda: NOW, stream)
    for event in events:
        log.heard(event)
    return stream.getvalue()


# Choosing


@pytest.mark.parametrize("word", ["text", "json", "journal"])
def test_the_form_may_be_chosen(word: str) -> None:
    assert choose_format({"FOS1_LOG": word}, sys.stderr) == word


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(SettingsError, match='FOS1_LOG is "xml"; it can be text, json or journal'):
        choose_format({"FOS1_LOG": "xml"}, sys.stderr)


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert choose_format(named, stream) is Format.JOURNAL
        assert choose_format({"JOURNAL_STREAM": "1:2"}, stream) is Format.JSON
        assert choose_format({}, stream) is Format.JSON
    assert choose_format({"JOURNAL_STREAM": "1:2"}, io.StringIO()) is Format.JSON


def test_a_terminal_gets_text() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        assert choose_format({}, stream) is Format.TEXT
    os.close(leader)


# Lines


def test_text() -> None:
    assert lines_of(Format.TEXT, EVENT) == (
        "2026-01-01T00:00:00Z WARNING DriftHealed EBPFProgram/default/edge-filter:"
        " attachment eth0 xdp was changed and is set right\n"
    )


def test_json() -> None:
    assert json.loads(lines_of(Format.JSON, EVENT)) == {
        "time": "2026-01-01T00:00:00Z",
        "level": "warning",
        "message": "attachment eth0 xdp was changed and is set right",
        "node": "edge-1",
        "reason": "DriftHealed",
        "count": 3,
        "kind": "EBPFProgram",
        "namespace": "default",
        "name": "edge-filter",
        "source_file": "policy/edge.yaml",
        "source_line": 12,
        "action": "replace attachment eth0 xdp",
        "revision": COMMIT,
    }


def test_plain_messages() -> None:
    stream = io.StringIO()
    log = Log(Format.TEXT, clock=lambda: NOW, stream=stream)
    log.info("listening", path="/run/fos1d/api.sock")
    log.warning("slow")
    log.error("gone")
    assert stream.getvalue() == (
        "2026-01-01T00:00:00Z INFO    listening\n"
        "2026-01-01T00:00:00Z WARNING slow\n"
        "2026-01-01T00:00:00Z ERROR   gone\n"
    )


def test_a_fault_of_ours_says_where() -> None:
    stream = io.StringIO()
    log = Log(Format.JSON, clock=lambda: NOW, stream=stream)
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError as error:
        log.exception("a pass ended in a bug", error)
    line = json.loads(stream.getvalue())
    assert line["message"] == "a pass ended in a bug: ZeroDivisionError('oh')"
    assert "test_journal.py" in line["detail"]


# The journal


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Put a journal in place that notes what it gets."""
    entries: list[dict[str, str]] = []
    journal = ModuleType("systemd.journal")
    journal.send = lambda message, **fields: entries.append(  # type: ignore[attr-defined]
        {"MESSAGE": message, **fields}
    )
    package = ModuleType("systemd")
    package.journal = journal  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", journal)
    return entries


def test_the_journal_gets_fields(sent: list[dict[str, str]]) -> None:
    assert lines_of(Format.JOURNAL, EVENT) == ""
    assert sent == [
        {
            "MESSAGE": "attachment eth0 xdp was changed and is set right",
            "MESSAGE_ID": message_id("DriftHealed"),
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "fos1d",
            "FOS1_NODE": "edge-1",
            "FOS1_REASON": "DriftHealed",
            "FOS1_COUNT": "3",
            "FOS1_KIND": "EBPFProgram",
            "FOS1_NAMESPACE": "default",
            "FOS1_NAME": "edge-filter",
            "FOS1_SOURCE_FILE": "policy/edge.yaml",
            "FOS1_SOURCE_LINE": "12",
            "FOS1_ACTION": "replace attachment eth0 xdp",
            "FOS1_REVISION": COMMIT,
        }
    ]


def test_message_ids_never_change() -> None:
    assert message_id("DriftHealed") == "889031fe7d425c78880d59ea21ee0a22"
    assert message_id("VerifierRefused") == "45838fcc61a350f8a9169e8aeccdeae6"


def test_without_a_journal_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd", None)
    assert json.loads(lines_of(Format.JOURNAL, EVENT))["reason"] == "DriftHealed"


# What is long


def failed(about: ResourceId | None = FILTER) -> Event:
    """Return an event with a verifier's log."""
    return Event(EventType.WARNING, "VerifierRefused", "refused", about, detail=LONG)


@pytest.mark.parametrize("form", [Format.JSON, Format.TEXT, Format.JOURNAL])
def test_a_long_detail_is_cut_and_kept(
    form: Format, tmp_path: Path, sent: list[dict[str, str]]
) -> None:
    files = DetailFiles(tmp_path / "details")
    said = lines_of(form, failed(), details=files) or json.dumps(sent[0])
    assert len(said) < 2 * MOST_MESSAGE
    assert "invalid access" in said
    path = files.path_of(FILTER)
    assert str(path) in said
    assert path.read_text() == LONG


def test_a_short_detail_goes_whole() -> None:
    event = Event(EventType.WARNING, "VerifierRefused", "refused", FILTER, detail="R1 invalid")
    line = json.loads(lines_of(Format.JSON, event))
    assert (line["detail"], "detail_file" in line) == ("R1 invalid", False)


def test_details_are_kept_for_a_few(tmp_path: Path) -> None:
    files = DetailFiles(tmp_path / "details")
    for number in range(MOST_FILES + 5):
        files.keep(failed(ResourceId("EBPFProgram", "default", f"p{number}")))
    files.keep(failed(None))
    assert len(list((tmp_path / "details").iterdir())) == MOST_FILES
    assert files.path_of(None).exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = lines_of(Format.JSON, failed(), details=DetailFiles(tmp_path / "file" / "details"))
    assert json.loads(said)["detail_file"].startswith("not kept: ")


def test_a_long_message_is_cut() -> None:
    assert end_of("short") == "short"
    assert len(end_of(LONG)) < MOST_MESSAGE + 60
    assert end_of(LONG).startswith(f"(the last 4096 of {len(LONG)} characters) …")


def test_the_ring_keeps_the_end_of_a_detail() -> None:
    heard: list[Event] = []
    events = Events(lambda: NOW, heard.append)
    events.add(failed())
    assert heard[0].detail == LONG
    assert events.newest()[0].detail == LONG[-4096:]


# systemd


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> socket.socket:
    """Listen as systemd does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.settimeout(5)
    listener.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listener


def test_notifications(told: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("1a2b3c: 3 of 3\nReady")
    assert told.recv(1000) == b"READY=1\nSTATUS=1a2b3c: 3 of 3 Ready"
    notifier.status("fine")
    assert told.recv(1000) == b"STATUS=fine"
    notifier.watchdog()
    assert told.recv(1000) == b"WATCHDOG=1"
    notifier.reloading(False)
    notifier.reloading()
    first, second = told.recv(1000).split(b"\n")
    assert (first, second.partition(b"=")[0]) == (b"RELOADING=1", b"MONOTONIC_USEC")
    notifier.stopping()
    assert told.recv(1000).startswith(b"STOPPING=1\nSTATUS=")
    told.close()


def test_nobody_to_notify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setitem(sys.modules, "systemd", None)
    Notifier().ready("fine")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "nonsense"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_how_often_to_ping(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval_s(environment) == seconds


def test_the_time_is_that_of_the_clock() -> None:
    stream = io.StringIO()
    Log(Format.TEXT, stream=stream).info("now")
    assert stream.getvalue().endswith("Z INFO    now\n")
