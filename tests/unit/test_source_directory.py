"""A directory as a source: what is seen, what is refused, what is read again."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source import directory
from fos1d.source.directory import DirectorySource
from fos1d.source.links import Root
from fos1d.source.names import is_ignored
from fos1d.source.open import read_once
from fos1d.source.tree import Listing, look


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.mkdir()
    return path


def write(path: Path, text: str = "x: 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def contents(snapshot: Snapshot) -> dict[str, str]:
    return {path: blob.read().decode() for path, blob in snapshot.blobs.items()}


def test_every_file_by_its_path(root: Path) -> None:
    write(root / "a.yaml", "a")
    write(root / "site/b.yml", "b")
    write(root / "lists/bad.netset", "10.0.0.0/8\n")
    snapshot = DirectorySource(root).snapshot()
    assert contents(snapshot) == {
        "a.yaml": "a",
        "lists/bad.netset": "10.0.0.0/8\n",
        "site/b.yml": "b",
    }
    assert [blob.path for blob in snapshot.manifests()] == ["a.yaml", "site/b.yml"]
    assert list(snapshot.blobs) == sorted(snapshot.blobs)


def test_an_empty_directory_is_an_empty_snapshot(root: Path) -> None:
    assert DirectorySource(root).snapshot().blobs == {}


def test_only_what_is_below_the_subpath_by_its_path_from_the_root(root: Path) -> None:
    write(root / "a.yaml")
    write(root / "edge/fra/b.yaml")
    assert set(DirectorySource(root, "./edge//fra/").snapshot().blobs) == {"edge/fra/b.yaml"}


@pytest.mark.parametrize("name", [".git", ".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#", ".#a.yaml"])
def test_hidden_files_and_those_of_editors_are_ignored(root: Path, name: str) -> None:
    write(root / name)
    assert DirectorySource(root).snapshot().blobs == {}


def test_a_folder_named_by_a_year_is_not_an_editors(root: Path) -> None:
    write(root / "2024" / "a.yaml")
    assert set(DirectorySource(root).snapshot().blobs) == {"2024/a.yaml"}
    assert is_ignored("2024") and not is_ignored("2024", folder=True)


def test_special_files_are_passed_over_without_opening_them(root: Path) -> None:
    write(root / "a.yaml")
    os.mkfifo(root / "pipe.yaml")
    (root / "link.yaml").symlink_to("pipe.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(root / "socket.yaml"))
        assert set(DirectorySource(root).snapshot().blobs) == {"a.yaml"}


@pytest.mark.parametrize(
    ("link", "target", "words"),
    [
        ("x.yaml", "/etc/hostname", "leads out of"),
        ("x.yaml", "../outside.yaml", "leads out of"),
        ("d/x.yaml", "../../outside.yaml", "leads out of"),
        ("x.yaml", "nowhere.yaml", "is missing"),
        ("x.yaml", "x.yaml", "in a circle"),
        ("up", ".", "in a circle"),
        ("d/up", "..", "in a circle"),
    ],
)
def test_symlinks_that_are_refused(root: Path, link: str, target: str, words: str) -> None:
    write(root.parent / "outside.yaml")
    (root / "d").mkdir()
    (root / link).symlink_to(target)
    with pytest.raises(SourceError, match=words) as error:
        DirectorySource(root).snapshot()
    assert link in str(error.value)
    assert not isinstance(error.value, SnapshotChanged)


def test_symlinks_inside_are_followed(root: Path) -> None:
    write(root / ".data/real.yaml", "a")
    write(root / "lists/l.netset", "1.2.3.4")
    (root / "a.yaml").symlink_to(".data/real.yaml")
    (root / "b.yaml").symlink_to(root / ".data" / "real.yaml")
    (root / "site").symlink_to("lists")
    (root / "d").mkdir()
    (root / "d" / "c.yaml").symlink_to("../a.yaml")
    assert contents(DirectorySource(root).snapshot()) == {
        "a.yaml": "a",
        "b.yaml": "a",
        "d/c.yaml": "a",
        "lists/l.netset": "1.2.3.4",
        "site/l.netset": "1.2.3.4",
    }


def test_the_root_may_be_a_symlink(tmp_path: Path) -> None:
    write(tmp_path / "releases/1/policy/a.yaml", "one")
    write(tmp_path / "releases/2/policy/a.yaml", "two")
    (tmp_path / "current").symlink_to("releases/1")
    source = DirectorySource(tmp_path / "current/policy")
    assert contents(source.snapshot()) == {"a.yaml": "one"}
    (tmp_path / "new").symlink_to("releases/2")
    (tmp_path / "new").rename(tmp_path / "current")
    assert contents(source.snapshot()) == {"a.yaml": "two"}


@pytest.mark.parametrize("subpath", ["", "sub"])
def test_what_is_missing_is_an_error_and_never_an_empty_snapshot(
    tmp_path: Path, subpath: str
) -> None:
    path = tmp_path if subpath else tmp_path / "policy"
    with pytest.raises(SourceError, match=r"source\.path|is missing"):
        DirectorySource(path, subpath).snapshot()


def test_a_file_as_root_or_subpath(root: Path) -> None:
    write(root / "a.yaml")
    with pytest.raises(SourceError, match="Not a directory"):
        DirectorySource(root / "a.yaml").snapshot()
    with pytest.raises(SourceError, match="is no folder"):
        DirectorySource(root, "a.yaml").snapshot()
    with pytest.raises(SourceError, match="leaves the source"):
        DirectorySource(root, "../x")


def test_names_that_cannot_be_printed(root: Path) -> None:
    (root / "a\x1b[31m.yaml").write_text("")
    with pytest.raises(SourceError, match="unprintable"):
        DirectorySource(root).snapshot()


def test_names_that_are_not_utf8(root: Path) -> None:
    with open(os.fsencode(root) + b"/\xff.yaml", "w"):  # noqa: PTH123
        pass
    with pytest.raises(SourceError, match="unprintable"):
        DirectorySource(root).snapshot()


def test_limits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.yaml", "12345")
    write(root / "b.yaml", "123")
    monkeypatch.setattr("fos1d.source.names.MAX_FILE_BYTES", 4)
    with pytest.raises(SourceError, match=r"a\.yaml has 5 bytes"):
        DirectorySource(root).snapshot()
    monkeypatch.setattr("fos1d.source.names.MAX_FILES", 1)
    with pytest.raises(SourceError, match="more than 1 files"):
        DirectorySource(root).snapshot()


def test_a_tree_that_is_too_deep(root: Path) -> None:
    write(root.joinpath(*"d" * 40) / "a.yaml")
    with pytest.raises(SourceError, match="folders deep"):
        DirectorySource(root).snapshot()


def test_what_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.yaml")
    real = os.open

    def refuse(path: str, *args: object, **kwargs: object) -> int:
        if str(path).endswith("a.yaml"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceError, match="Permission denied") as error:
        DirectorySource(root).snapshot()
    assert not isinstance(error.value, SnapshotChanged)


# What is read again


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every file that is read is added."""
    seen: list[str] = []
    real = directory._read_blob

    def spy(path: str, *args: object) -> object:
        seen.append(path)
        return real(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(directory, "_read_blob", spy)
    return seen


def test_unchanged_files_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.yaml")
    write(root / "b.yaml")
    time.sleep(0.03)
    source = DirectorySource(root)
    first = source.snapshot()
    seen = reads(monkeypatch)
    assert source.snapshot() is first
    assert seen == []
    write(root / "b.yaml", "x: 2")
    second = source.snapshot()
    assert seen == ["b.yaml"]
    assert second.blobs["a.yaml"] is first.blobs["a.yaml"]
    assert second.revision != first.revision


def test_equal_content_has_an_equal_id_and_revision(root: Path) -> None:
    write(root / "a.yaml", "1")
    source = DirectorySource(root)
    first = source.snapshot()
    write(root / "a.yaml", "2")
    second = source.snapshot()
    write(root / "a.yaml", "1")
    third = source.snapshot()
    assert first.revision == third.revision != second.revision
    assert first == third
    assert len(first.revision.removeprefix("directory@")) == 12


def test_writes_within_one_tick_of_the_clock_are_seen(root: Path) -> None:
    source = DirectorySource(root)
    for step in range(300):
        write(root / "a.yaml", f"{step:04}")
        assert contents(source.snapshot()) == {"a.yaml": f"{step:04}"}


def test_lists_are_read_when_asked_for_and_known_by_their_stamp(root: Path) -> None:
    path = write(root / "l.netset", "10.0.0.0/8")
    source = DirectorySource(root)
    blob = source.snapshot().blobs["l.netset"]
    assert source.snapshot().blobs["l.netset"].id == blob.id
    assert blob.read() == b"10.0.0.0/8"
    for step in range(100):
        path.write_text(f"10.0.{step:02}.0/8")
        now = source.snapshot().blobs["l.netset"]
        assert now.id != blob.id
        assert now.read() == f"10.0.{step:02}.0/8".encode()
        with pytest.raises(SnapshotChanged):
            blob.read()
        blob = now


def test_a_list_that_is_gone_when_it_is_read(root: Path) -> None:
    path = write(root / "l.netset")
    blob = DirectorySource(root).snapshot().blobs["l.netset"]
    path.unlink()
    with pytest.raises(SnapshotChanged):
        blob.read()


def test_a_large_manifest_is_not_kept(root: Path) -> None:
    write(root / "a.yaml", "#" * (directory.KEPT_BYTES + 1))
    blob = DirectorySource(root).snapshot().blobs["a.yaml"]
    assert blob.id.startswith("stamp-")
    assert len(blob.read()) == blob.size_bytes


# Files that somebody is writing


@contextmanager
def open_for_writing(path: Path) -> Iterator[None]:
    with path.open("a"):
        yield


def test_a_file_that_is_open_for_writing_is_not_taken(root: Path) -> None:
    path = write(root / "a.yaml", "old")
    write(root / "l.netset", "old")
    source = DirectorySource(root)
    for name in ("a.yaml", "l.netset"):
        with open_for_writing(root / name), pytest.raises(SnapshotChanged, match="open for writ"):
            source.snapshot()
    with open_for_writing(path), pytest.raises(SourceError, match="close it") as error:
        source.snapshot(patient=False)
    assert not isinstance(error.value, SnapshotChanged)
    assert contents(source.snapshot()) == {"a.yaml": "old", "l.netset": "old"}


def test_an_open_file_keeps_its_content_when_patience_ends(root: Path) -> None:
    write(root / "a.yaml", "old")
    source = DirectorySource(root)
    source.snapshot()
    with (root / "a.yaml").open("w") as file, (root / "new.yaml").open("w") as other:
        file.write("half")
        other.write("half")
        file.flush()
        other.flush()
        write(root / "b.yaml", "b")
        assert contents(source.snapshot(patient=False)) == {"a.yaml": "old", "b.yaml": "b"}
    assert contents(source.snapshot()) == {"a.yaml": "half", "b.yaml": "b", "new.yaml": "half"}


def test_a_held_file_that_is_missing_keeps_its_content(root: Path) -> None:
    write(root / "a.yaml", "old")
    write(root / "b.yaml", "b")
    source = DirectorySource(root)
    source.snapshot()
    (root / "a.yaml").unlink()
    assert contents(source.snapshot(held={"a.yaml"})) == {"a.yaml": "old", "b.yaml": "b"}
    assert contents(source.snapshot()) == {"b.yaml": "b"}


def test_where_leases_are_not_granted_the_caller_decides(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(13, "no leases here")

    write(root / "a.yaml", "old")
    source = DirectorySource(root)
    source.snapshot()
    monkeypatch.setattr("fcntl.fcntl", refuse)
    write(root / "a.yaml", "new")
    with pytest.raises(SnapshotChanged):
        source.snapshot()
    time.sleep(0.03)
    assert contents(source.snapshot(held={"a.yaml"})) == {"a.yaml": "old"}
    assert contents(source.snapshot()) == {"a.yaml": "new"}


# What changes while it is read


def test_a_change_between_two_looks_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.yaml", "1")
    looks = 0

    def meddle(opened: Root, subpath: str) -> Listing:
        nonlocal looks
        looks += 1
        if looks == 2:
            write(root / "b.yaml")
        return look(opened, subpath)

    monkeypatch.setattr(directory, "look", meddle)
    source = DirectorySource(root)
    with pytest.raises(SnapshotChanged):
        source.snapshot()
    assert set(source.snapshot().blobs) == {"a.yaml", "b.yaml"}


def test_a_root_that_is_swapped_meanwhile_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "a.yaml", "1")

    def meddle(opened: Root, subpath: str) -> Listing:
        listing = look(opened, subpath)
        if root.exists():
            root.rename(root.parent / "old")
        return listing

    monkeypatch.setattr(directory, "look", meddle)
    with pytest.raises(SnapshotChanged):
        DirectorySource(root).snapshot()


def test_reading_once_waits_for_writers(root: Path) -> None:
    path = write(root / "a.yaml", "old")
    source = DirectorySource(root)
    with path.open("w") as file:
        file.write("new")
        file.flush()
        with pytest.raises(SnapshotChanged):
            read_once(source, patience_s=0.06)
        closing = threading.Timer(0.1, file.close)
        closing.start()
        assert contents(read_once(source)) == {"a.yaml": "new"}
        closing.join()
