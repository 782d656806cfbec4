"""The workload files of this router."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fos1d.kinds.workload_file import WorkloadFile, parse_workload_file

MOST_BYTES = 1 << 20


@dataclass(slots=True)
class StaticFiles:
    """Reads a folder of files. What a file said when it was last right stays while it is wrong."""

    folder: Path
    problems: tuple[str, ...] = ()
    _good: dict[Path, list[WorkloadFile]] = field(default_factory=dict)

    def read(self) -> list[WorkloadFile]:
        """Return the documents, in the order of the files' names; note what is wrong."""
        problems: list[str] = []
        good: dict[Path, list[WorkloadFile]] = {}
        for path in self._paths(problems):
            try:
                data = path.read_bytes()[: MOST_BYTES + 1]
            except OSError as error:
                problems.append(f"{path}: cannot be read: {error.strerror}")
                good[path] = self._good.get(path, [])
                continue
            documents, findings = parse_workload_file(str(path), data)
            if len(data) > MOST_BYTES:
                problems.append(f"{path}: is larger than 1 MiB")
                documents = []
            problems += map(str, findings)
            right = not findings and len(data) <= MOST_BYTES
            good[path] = documents if right or path not in self._good else self._good[path]
        self._good, self.problems = good, tuple(problems)
        return [document for path in sorted(good) for document in good[path]]

    def _paths(self, problems: list[str]) -> list[Path]:
        try:
            return sorted(p for p in self.folder.iterdir() if p.suffix in (".yaml", ".yml"))
        except FileNotFoundError:
            return []
        except OSError as error:
            problems.append(f"{self.folder}: cannot be read: {error.strerror}")
            return sorted(self._good)
