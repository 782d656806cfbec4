"""Whole snapshots: what may be used of them, and everything that is wrong."""

from __future__ import annotations

import gc

from fos1d.kinds.parse import ParsedFile, parse_file
from fos1d.kinds.validate import read_problems, validate
from fos1d.manifest.syntax import MOST_BYTES
from fos1d.model.identity import ResourceId
from fos1d.model.snapshot import Blob, Snapshot
from tests.manifests import manifest, snapshot

XDP = "type: xdp\ninterface: eth0\n"
LISTED = XDP + "settings: {blacklist: {enabled: true, files: [./bad.netset]}}"


def test_what_is_wrong_harms_nothing_else() -> None:
    result = validate(
        snapshot(
            {
                "b.yaml": manifest("EBPFProgram", XDP, "good"),
                "a.yaml": manifest("EBPFProgram", "type: xpd", "bad"),
                "c.yml": manifest("EBPFProgram", XDP, "fine"),
                "README.md": "no manifest",
            }
        )
    )
    assert not result.valid
    assert [declaration.id.name for declaration in result.declarations] == ["fine", "good"]
    assert result.rejected == {ResourceId("EBPFProgram", "default", "bad")}
    assert result.declared == 3
    assert [finding.origin.path for finding in result.findings] == ["a.yaml"]


def test_neither_of_two_with_one_name_is_used() -> None:
    result = validate(
        snapshot({"a.yaml": manifest("EBPFProgram", XDP), "b.yaml": manifest("EBPFProgram", XDP)})
    )
    assert result.declarations == ()
    assert result.rejected == {ResourceId("EBPFProgram", "default", "x")}


def test_warnings_reject_nothing() -> None:
    text = manifest(
        "EBPFMap", "type: hash\nmaxEntries: 1\nkeySize: 4\nvalueSize: 4\naccessedBy: [a]"
    )
    result = validate(snapshot({"a.yaml": text}))
    assert result.valid
    assert len(result.declarations) == len(result.findings) == 1


def test_lists_are_read() -> None:
    files: dict[str, str | bytes] = {
        "policy/a.yaml": manifest("EBPFProgram", LISTED, "a"),
        "policy/b.yaml": manifest("EBPFProgram", LISTED, "b"),
        "policy/bad.netset": "192.0.2.1\nnonsense\n::/0 # all\n# 0.0.0.0/0\n",
    }
    result = validate(snapshot(files))
    assert [(str(f.origin), f.resource.name) for f in result.findings if f.resource] == [
        ("policy/bad.netset:2:1", "a"),
        ("policy/bad.netset:2:1", "b"),
        ("policy/bad.netset:3:1", "a"),
        ("policy/bad.netset:3:1", "b"),
    ]
    assert result.declarations == ()


def test_a_list_is_read_once() -> None:
    read: list[str] = []

    def problems(blob: Blob) -> tuple[tuple[int, str], ...]:
        read.append(blob.path)
        return read_problems(blob)

    files: dict[str, str | bytes] = {"bad.netset": "192.0.2.1\n"}
    for name in ("a", "b"):
        files[f"{name}.yaml"] = manifest("EBPFProgram", LISTED, name)
    assert validate(snapshot(files), problems=problems).valid
    assert read == ["bad.netset"]


def test_many_lines_are_cut_short() -> None:
    blob = snapshot({"x": "nonsense\n" * 500 + "0.0.0.0/0\n" * 500}).blobs["x"]
    assert len(read_problems(blob)) == 100


def test_what_cannot_be_read_is_told() -> None:
    def refuse() -> bytes:
        raise PermissionError(13, "Permission denied")

    blobs = {
        "a.yaml": Blob("a.yaml", "", 5, refuse),
        "b.yaml": Blob("b.yaml", "", MOST_BYTES + 1, refuse),
        "c.yaml": Blob("c.yaml", "", 5, manifest("EBPFProgram", LISTED).encode),
        "bad.netset": Blob("bad.netset", "", 5, refuse),
    }
    result = validate(Snapshot("test", blobs))
    assert [str(finding) for finding in result.findings] == [
        "a.yaml:1:1 cannot be read: Permission denied",
        f"b.yaml:1:1 the file has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are read: split it",
        "bad.netset:1:1 cannot be read: Permission denied (in a list of EBPFProgram/default/x)",
    ]


def test_progress_and_memory() -> None:
    told: list[tuple[int, int]] = []
    parsed: list[str] = []

    def parse(blob: Blob) -> ParsedFile:
        parsed.append(blob.path)
        return parse_file(blob.path, blob.read())

    files: dict[str, str | bytes] = {f"{i}.yaml": "" for i in range(3)}
    validate(snapshot(files), lambda done, total: told.append((done, total)), parse)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert parsed == ["0.yaml", "1.yaml", "2.yaml"]
    assert gc.isenabled()


def test_an_empty_snapshot_is_valid() -> None:
    result = validate(snapshot({}))
    assert result.valid
    assert result.declared == 0
