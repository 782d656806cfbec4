"""What is too long for the journal, a file for each resource: the newest verifier's log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fos1d.model.identity import ResourceId
from fos1d.report.events import Event

MOST_BYTES = 16 << 20
MOST_FILES = 64


@dataclass(frozen=True, slots=True)
class DetailFiles:
    """Files below a folder (`<runtime>/details`): at most 64, the oldest go first."""

    folder: Path

    def path_of(self, about: ResourceId | None) -> Path:
        """Return where the newest long detail about a resource is."""
        name = f"{about.kind}_{about.namespace}_{about.name}" if about else "daemon"
        return self.folder / f"{name}.log"

    def keep(self, event: Event) -> Path | str:
        """Keep an event's detail; return where, or why not."""
        path = self.path_of(event.about)
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            staged = path.with_suffix(".new")
            staged.write_bytes(event.detail.encode("utf-8", "replace")[-MOST_BYTES:])
            staged.rename(path)
            self._forget_oldest()
        except OSError as error:
            return f"not kept: {error}"
        return path

    def _forget_oldest(self) -> None:
        kept = sorted(self.folder.glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[:-MOST_FILES]:
            old.unlink(missing_ok=True)
