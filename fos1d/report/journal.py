"""The log: journald with fields where systemd started us, JSON or text lines on stderr otherwise.

    FOS1_LOG=text|json|journal      chooses by hand

A long detail (a verifier's log may have megabytes) never goes into a line: its end does, and all
of it into a file of its own (`Log.details`), which the line names.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TextIO

from fos1d.errors import SettingsError
from fos1d.report.details import DetailFiles
from fos1d.report.events import Event, EventType
from fos1d.report.times import rfc3339

IDENTIFIER = "fos1d"
MOST_MESSAGE = 4096
REASON_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "reason.networking.fos1.io")

Fields = Mapping[str, object]


class Format(StrEnum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


class Priority(IntEnum):
    """syslog's priorities, as far as they are used."""

    ERROR = 3
    WARNING = 4
    INFO = 6


def message_id(reason: str) -> str:
    """Return the MESSAGE_ID of a reason: the same in every version and on every router."""
    return uuid.uuid5(REASON_SPACE, reason).hex


def choose_format(environment: Mapping[str, str], stream: TextIO) -> Format:
    """Return how to log on `stream`.

    Raises SettingsError for a FOS1_LOG that is none of the three.
    """
    if chosen := environment.get("FOS1_LOG"):
        if chosen not in list(Format):
            raise SettingsError(f'FOS1_LOG is "{chosen}"; it can be text, json or journal')
        return Format(chosen)
    if _is_journal(environment.get("JOURNAL_STREAM", ""), stream):
        return Format.JOURNAL
    return Format.TEXT if stream.isatty() else Format.JSON


def _is_journal(named: str, stream: TextIO) -> bool:
    """Whether systemd connected `stream` to the journal (JOURNAL_STREAM in systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


@dataclass(frozen=True, slots=True)
class Log:
    """Where the daemon says what happens. Safe from any thread.

    `node` tells several daemons on one machine apart; `details` keeps what is too long for a line.
    """

    format: Format = field(default_factory=lambda: choose_format(os.environ, sys.stderr))
    node: str = ""
    details: DetailFiles | None = None
    clock: Callable[[], float] = time.time
    stream: TextIO | None = None

    def heard(self, event: Event) -> None:
        """Log an event."""
        priority = Priority.WARNING if event.type is EventType.WARNING else Priority.INFO
        self._write(priority, event.message, self._fields_of(event))

    def info(self, message: str, **fields: object) -> None:
        """Log what is normal."""
        self._write(Priority.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Log what may need a person."""
        self._write(Priority.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Log what needs a person."""
        self._write(Priority.ERROR, message, fields)

    def exception(self, message: str, error: BaseException) -> None:
        """Log a fault of our own, with where it happened."""
        trace = "".join(traceback.format_exception(error))
        fields = {"reason": "Bug", "error": repr(error), "detail": end_of(trace)}
        self._write(Priority.ERROR, f"{message}: {error!r}", fields)

    def _fields_of(self, event: Event) -> Fields:
        about, origin = event.about, event.origin
        fields: dict[str, object] = {"reason": event.reason, "count": event.count}
        if about:
            fields |= {"kind": about.kind, "namespace": about.namespace, "name": about.name}
        if origin:
            fields |= {"source_file": origin.path, "source_line": origin.line}
        if event.detail:
            fields |= self._detail(event)
        fields |= event.packet or {}
        wanted = {"action": event.action, "revision": event.revision}
        return fields | {name: value for name, value in wanted.items() if value}

    def _detail(self, event: Event) -> dict[str, object]:
        fields: dict[str, object] = {"detail": end_of(event.detail)}
        if len(event.detail) > MOST_MESSAGE and self.details is not None:
            fields["detail_file"] = str(self.details.keep(event))
        return fields

    def _write(self, priority: Priority, message: str, fields: Fields) -> None:
        all_fields = {"node": self.node, **fields} if self.node else fields
        line = end_of(message)
        if self.format is Format.JOURNAL and _send(priority, line, all_fields):
            return
        stream = self.stream or sys.stderr
        as_text = self.format is Format.TEXT
        made = _text_line if as_text else _json_line
        stream.write(made(self.clock(), priority, line, all_fields))
        stream.flush()


def end_of(text: str) -> str:
    """Return a text's last part, if it is long: a verifier says at the end what it refuses."""
    if len(text) <= MOST_MESSAGE:
        return text
    return f"(the last {MOST_MESSAGE} of {len(text)} characters) …{text[-MOST_MESSAGE:]}"


def _send(priority: Priority, message: str, fields: Fields) -> bool:
    """Send to journald; return whether that could be done."""
    try:
        from systemd import journal

        journal.send(message, **journal_fields(priority, fields))
    except (ImportError, OSError):
        return False
    return True


def journal_fields(priority: Priority, fields: Fields) -> dict[str, str]:
    """Return what goes to journald beside MESSAGE."""
    sent = {f"FOS1_{name.upper()}": str(value) for name, value in fields.items()}
    sent |= {"PRIORITY": str(int(priority)), "SYSLOG_IDENTIFIER": IDENTIFIER}
    if reason := fields.get("reason"):
        sent["MESSAGE_ID"] = message_id(str(reason))
    return sent


def _json_line(now_s: float, priority: Priority, message: str, fields: Fields) -> str:
    line: dict[str, Any] = {"time": rfc3339(now_s), "level": priority.name.lower()}
    return json.dumps({**line, "message": message, **fields}, ensure_ascii=False) + "\n"


DETAIL_LINES = 20


def _text_line(now_s: float, priority: Priority, message: str, fields: Fields) -> str:
    about = "/".join(str(fields[key]) for key in ("kind", "namespace", "name") if key in fields)
    subject = " ".join(str(word) for word in (fields.get("reason"), about) if word)
    head = f"{rfc3339(now_s)} {priority.name:7} {subject}{': ' if subject else ''}"
    end = str(fields.get("detail", "")).splitlines()[-DETAIL_LINES:]
    if "detail_file" in fields:
        end.append(f"all of it is in {fields['detail_file']}")
    return "".join(f"{line}\n" for line in (f"{head}{message}", *(f"    {x}" for x in end)))
