"""What must outlive the daemon and is for people: the history, and whether it is suspended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fos1d.report.desk import Revision

MOST_REVISIONS = 50


@dataclass(frozen=True, slots=True)
class Ledger:
    """Small files below the state folder; one that cannot be read counts as empty."""

    folder: Path

    def history(self) -> list[Revision]:
        """Return the revisions, newest first."""
        try:
            lines = (self.folder / "history.jsonl").read_text().splitlines()
            return [Revision(**json.loads(line)) for line in reversed(lines)]
        except (OSError, ValueError, TypeError):
            return []

    def add(self, revision: Revision) -> None:
        """Note a revision; a later note on the newest one replaces it."""
        rows = self.history()
        if rows and rows[0].revision == revision.revision:
            rows = rows[1:]
        kept: Sequence[Revision] = [revision, *rows][:MOST_REVISIONS]
        text = "".join(f"{json.dumps(asdict(row))}\n" for row in reversed(kept))
        self._write("history.jsonl", text)

    def suspended_until_s(self) -> float | None:
        """Return until when (Unix seconds, maybe infinity) passes are suspended, None if not."""
        try:
            return float((self.folder / "suspended").read_text())
        except (OSError, ValueError):
            return None

    def suspend(self, until_s: float) -> None:
        """Suspend passes, across restarts."""
        self._write("suspended", str(until_s))

    def resume(self) -> None:
        """Lift the suspension."""
        (self.folder / "suspended").unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        staged = self.folder / f".{name}.new"
        staged.write_text(text)
        staged.rename(self.folder / name)
