"""A whole snapshot -> declarations that may be used, and everything that is wrong in it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fos1d.kinds.check import check
from fos1d.kinds.check.found import place
from fos1d.kinds.check.objects import object_problems, unnamed_programs
from fos1d.kinds.check.references import referenced_files
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.parse import ParsedFile, parse_file
from fos1d.kinds.program import EBPFProgram
from fos1d.manifest.syntax import MOST_BYTES, too_large
from fos1d.model.diagnostic import Diagnostic, errors_of
from fos1d.model.identity import Origin, ResourceId
from fos1d.model.snapshot import Blob, Snapshot

Progress = Callable[[int, int], None]
Problems = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Validated:
    """What a snapshot declares.

    `declarations` are those that no error names: what is wrong with one harms no other.
    `declared` counts all resources that could be told, `rejected` names the others among them.
    """

    declarations: tuple[Declaration, ...]
    findings: tuple[Diagnostic, ...]
    rejected: frozenset[ResourceId] = field(default_factory=frozenset)

    @property
    def valid(self) -> bool:
        """Whether there are no errors."""
        return not errors_of(self.findings)

    @property
    def declared(self) -> int:
        """How many resources there are, right or wrong."""
        return len(self.declarations) + len(self.rejected)


def parse_blob(blob: Blob) -> ParsedFile:
    """Read and parse one manifest file."""
    if blob.size_bytes > MOST_BYTES:
        return _unusable(blob, too_large(blob.size_bytes))
    try:
        data = blob.read()
    except OSError as error:
        return _unusable(blob, f"cannot be read: {error.strerror or error}")
    return parse_file(blob.path, data)


def _unusable(blob: Blob, message: str) -> ParsedFile:
    return ParsedFile((), (Diagnostic(Origin(blob.path), "", message),))


def read_problems(blob: Blob) -> Problems:
    """Read an address list and return the lines that are wrong, with what is wrong."""
    from fos1d.compile.netset import read_netset  # numpy takes long to import

    try:
        data = blob.read()
    except OSError as error:
        return ((1, f"cannot be read: {error.strerror or error}"),)
    return read_netset(data).problems


def validate(
    snapshot: Snapshot,
    progress: Progress | None = None,
    parse: Callable[[Blob], ParsedFile] = parse_blob,
    problems: Callable[[Blob], Problems] = read_problems,
) -> Validated:
    """Validate every manifest and every address list of a snapshot.

    `progress` is told how many files are done, and of how many. `parse` and `problems` may
    remember what they said of a blob: it depends on nothing else.
    """
    declarations, findings = _parse_all(snapshot.manifests(), progress, parse)
    wrong = {finding.resource for finding in errors_of(findings)}
    invalid = {identity for identity in wrong if identity is not None}
    findings += check(declarations, snapshot.blobs.keys(), invalid, complete=None not in wrong)
    findings += _list_problems(snapshot, declarations, problems)
    findings += place(object_problems(declarations, snapshot.blobs))
    findings += place(unnamed_programs(declarations))
    return _validated(declarations, findings)


def _parse_all(
    manifests: Sequence[Blob],
    progress: Progress | None,
    parse: Callable[[Blob], ParsedFile],
) -> tuple[list[Declaration], list[Diagnostic]]:
    declarations: list[Declaration] = []
    findings: list[Diagnostic] = []
    with _no_cycle_search():
        for done, blob in enumerate(manifests, 1):
            parsed = parse(blob)
            declarations += parsed.declarations
            findings += parsed.findings
            if progress is not None:
                progress(done, len(manifests))
    return declarations, findings


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Keep Python from searching all that was parsed for cycles, again and again; it has none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _validated(declarations: Sequence[Declaration], findings: list[Diagnostic]) -> Validated:
    rejected = {error.resource for error in errors_of(findings) if error.resource is not None}
    usable = (declaration for declaration in declarations if declaration.id not in rejected)
    order = sorted(findings, key=lambda f: (f.origin, f.field, f.message, str(f.resource)))
    by_id = sorted(usable, key=lambda declaration: declaration.id)
    return Validated(tuple(by_id), tuple(order), frozenset(rejected))


def _list_problems(
    snapshot: Snapshot, declarations: Sequence[Declaration], problems: Callable[[Blob], Problems]
) -> Iterator[Diagnostic]:
    known: dict[str, Problems] = {}
    for declaration in declarations:
        for path in _lists(declaration):
            if path in snapshot.blobs and path not in known:
                known[path] = problems(snapshot.blobs[path])
            for line, message in known.get(path, ()):
                said = f"{message} (in a list of {declaration.id})"
                yield Diagnostic(Origin(path, line), "", said, resource=declaration.id)


def _lists(declaration: Declaration) -> list[str]:
    """Return the paths of the address lists that a declaration uses, each once."""
    if not isinstance(declaration.resource, EBPFProgram):
        return []
    found = referenced_files(declaration)
    lists = {path for loc, path in found if "files" in loc}
    return sorted(path for path in lists if not path.endswith((".yaml", ".yml")))
