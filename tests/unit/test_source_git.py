"""A Git repository as a source, with real repositories."""

from __future__ import annotations

import os
import subprocess
import threading
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fos1d.errors import SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source.follow import follow
from fos1d.source.git import GitSource, git_command, quarantine
from fos1d.source.objects import Objects, entries_of
from fos1d.source.refs import UNREADABLE, check_branch, locate, read_branch

SOMEBODY = {
    "GIT_AUTHOR_NAME": "Ada Writer",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0100",
    "GIT_COMMITTER_NAME": "Carl Committer",
    "GIT_COMMITTER_EMAIL": "carl@example.org",
    "GIT_COMMITTER_DATE": "1700000060 +0100",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": os.environ["PATH"],
}


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", *args],
        cwd=folder,
        env=SOMEBODY,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a work tree on the branch main, without a commit."""
    path = tmp_path / "tree"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    return path


def commit(tree: Path, files: Mapping[str, str], message: str = "Change it\n\nWhy not.") -> str:
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(tree, "rev-parse", "HEAD")


def bare(tree: Path) -> Path:
    """Return a bare clone beside the work tree."""
    git(tree.parent, "clone", "--quiet", "--bare", str(tree), "bare.git")
    return tree.parent / "bare.git"


def contents(snapshot: Snapshot) -> dict[str, str]:
    return {path: blob.read().decode() for path, blob in snapshot.blobs.items()}


FILES = {"a.yaml": "a: 1\n", "site/b.yml": "b: 1\n", "lists/l.netset": "10.0.0.0/8\n"}


def test_the_files_of_the_branch(tree: Path) -> None:
    head = commit(tree, FILES)
    for path in (tree, tree / ".git", bare(tree)):
        snapshot = GitSource(path).snapshot()
        assert snapshot.revision == head
        assert contents(snapshot) == FILES
        assert [blob.path for blob in snapshot.manifests()] == ["a.yaml", "site/b.yml"]
        for name, blob in snapshot.blobs.items():
            assert blob.id == git(tree, "rev-parse", f"HEAD:{name}")
            assert blob.size_bytes == len(FILES[name])


def test_an_older_commit_and_what_is_not_committed(tree: Path) -> None:
    first = commit(tree, {"a.yaml": "1"})
    second = commit(tree, {"a.yaml": "2"})
    (tree / "a.yaml").write_text("3")
    source = GitSource(tree)
    assert contents(source.snapshot()) == {"a.yaml": "2"}
    assert contents(source.snapshot(first)) == {"a.yaml": "1"}
    assert contents(source.snapshot(second)) == {"a.yaml": "2"}


def test_only_the_subpath_by_paths_from_the_root(tree: Path) -> None:
    commit(tree, {"a.yaml": "a", "edge/fra/b.yaml": "b", "edge/ams/c.yaml": "c"})
    assert contents(GitSource(tree, subpath="edge/fra").snapshot()) == {"edge/fra/b.yaml": "b"}


def test_hidden_files_and_those_of_editors_are_ignored(tree: Path) -> None:
    commit(tree, {".github/workflows/ci.yaml": "x", ".x.yaml": "x", "a.yaml~": "x", "a.yaml": "a"})
    (tree / ".link").symlink_to("/etc/passwd")
    commit(tree, {})
    assert contents(GitSource(tree).snapshot()) == {"a.yaml": "a"}


def test_an_empty_commit_is_an_empty_snapshot(tree: Path) -> None:
    commit(tree, {})
    assert GitSource(tree).snapshot().blobs == {}


# What is refused, and why


def test_symlinks_are_refused(tree: Path) -> None:
    (tree / "site").mkdir()
    (tree / "site" / "x.yaml").symlink_to("/etc/passwd")
    commit(tree, {})
    with pytest.raises(SourceError, match=r"site/x\.yaml is a symlink"):
        GitSource(tree).snapshot()


def test_submodules_are_refused(tree: Path) -> None:
    head = commit(tree, {"a.yaml": ""})
    git(tree, "update-index", "--add", "--cacheinfo", f"160000,{head},module")
    git(tree, "commit", "--quiet", "--message", "x")
    with pytest.raises(SourceError, match="module is a submodule"):
        GitSource(tree).snapshot()


def test_what_is_refused_does_not_matter_outside_the_subpath(tree: Path) -> None:
    (tree / "x.yaml").symlink_to("/etc/passwd")
    commit(tree, {"edge/a.yaml": "a"})
    assert contents(GitSource(tree, subpath="edge").snapshot()) == {"edge/a.yaml": "a"}


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="fos1ctl repo init"):
        GitSource(tmp_path / "nowhere").snapshot()
    with pytest.raises(SourceError, match="is no Git repository"):
        GitSource(tmp_path).snapshot()


def test_no_branch(tree: Path) -> None:
    with pytest.raises(SourceError, match=r"no branch main.*nothing was pushed yet"):
        GitSource(tree).snapshot()
    assert GitSource(tree).head() is None
    commit(tree, {})
    with pytest.raises(SourceError, match=r"no branch other .*it has main"):
        GitSource(tree, "other").snapshot()


@pytest.mark.parametrize("subpath", ["nowhere", "a.yaml", "site/nowhere"])
def test_no_subpath(tree: Path, subpath: str) -> None:
    commit(tree, FILES)
    with pytest.raises(SourceError, match=f"has no folder {subpath}"):
        GitSource(tree, subpath=subpath).snapshot()


@pytest.mark.parametrize(
    "branch", ["", "-x", "a..b", "../x", "a b", "x.lock", "a/", "/a", "a\n", "@{x", "a/.b", "~x"]
)
def test_what_cannot_be_a_branch(branch: str) -> None:
    with pytest.raises(SourceError, match="cannot be the name of a branch"):
        check_branch(branch)


def test_what_can_be_a_branch() -> None:
    assert check_branch("refs/heads/site/fra-1") == "site/fra-1"


def test_no_commit(tree: Path) -> None:
    commit(tree, FILES)
    blob = git(tree, "rev-parse", "HEAD:a.yaml")
    for wrong, words in ((blob, "is a blob, not a commit"), ("0" * 40, "missing"), ("HEAD", "id")):
        with pytest.raises(SourceError, match=words):
            GitSource(tree).snapshot(wrong)


def loose(tree: Path, id: str) -> Path:
    return tree / ".git" / "objects" / id[:2] / id[2:]


def test_a_missing_object(tree: Path) -> None:
    commit(tree, FILES)
    id = git(tree, "rev-parse", "HEAD:a.yaml")
    source = GitSource(tree)
    blob = source.snapshot().blobs["a.yaml"]
    loose(tree, id).unlink()
    with pytest.raises(SourceError, match=f"{id} is missing"):
        blob.read()
    with pytest.raises(SourceError, match=f"{id} is missing"):
        GitSource(tree).snapshot()


def test_a_damaged_object(tree: Path) -> None:
    head = commit(tree, FILES)
    for revision, damage in (("HEAD:a.yaml", b"x"), ("HEAD:site", zlib.compress(b"tree 9\0x"))):
        path = loose(tree, git(tree, "rev-parse", revision))
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(damage)
        with pytest.raises(SourceError, match="git"):
            contents(GitSource(tree).snapshot(head))
        path.write_bytes(whole)
    assert contents(GitSource(tree).snapshot(head)) == FILES


def test_a_file_that_is_too_large(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tree, {"l.netset": "12345"})
    monkeypatch.setattr("fos1d.source.names.MAX_FILE_BYTES", 4)
    with pytest.raises(SourceError, match="has 5 bytes"):
        GitSource(tree).snapshot()


# The process that reads


def test_a_killed_git_is_replaced(tree: Path) -> None:
    commit(tree, FILES)
    source = GitSource(tree)
    blobs = source.snapshot().blobs
    running = source._objects._git
    assert running is not None
    running.kill()
    assert blobs["a.yaml"].read() == b"a: 1\n"
    source.close()
    assert blobs["a.yaml"].read() == b"a: 1\n"
    source.close()


def test_objects_that_come_later_are_found_by_the_same_process(tree: Path) -> None:
    commit(tree, FILES)
    source = GitSource(tree)
    source.snapshot()
    running = source._objects._git
    for number in range(5):
        commit(tree, {"a.yaml": f"{number}"})
        if number == 3:
            git(tree, "gc", "--quiet", "--prune=now")
        assert contents(source.snapshot())["a.yaml"] == f"{number}"
    assert source._objects._git is running


def test_a_repository_that_is_made_anew(tree: Path) -> None:
    commit(tree, FILES)
    path = bare(tree)
    source = GitSource(path)
    source.snapshot()
    path.rename(tree.parent / "old.git")
    with pytest.raises(SourceError, match="is missing"):
        source.snapshot()
    commit(tree, {"a.yaml": "new"})
    bare(tree)
    assert contents(source.snapshot())["a.yaml"] == "new"


def test_unchanged_folders_are_not_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tree, {f"d{number}/{name}": name for number in range(9) for name in ("a.yaml", "b")})
    source = GitSource(tree)
    first = source.snapshot()
    asked: list[str] = []
    real = Objects.contents

    def spy(self: Objects, kind: str, ids: list[str]) -> list[bytes]:
        asked.extend(f"{kind} {id}" for id in ids)
        return real(self, kind, ids)

    monkeypatch.setattr(Objects, "contents", spy)
    commit(tree, {"d3/a.yaml": "new"})
    second = source.snapshot()
    trees = [line for line in asked if line.startswith("tree")]
    assert len(trees) == 2
    same = [path for path in first.blobs if first.blobs[path] is second.blobs[path]]
    assert len(same) == 16


def test_many_manifests_are_read_in_few_round_trips(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tree, {f"{number:04}.yaml": f"n: {number}" for number in range(500)})
    source = GitSource(tree)
    snapshot = source.snapshot()
    trips: list[int] = []
    real = Objects.contents

    def spy(self: Objects, kind: str, ids: list[str]) -> list[bytes]:
        trips.append(len(ids))
        return real(self, kind, ids)

    monkeypatch.setattr(Objects, "contents", spy)
    assert [blob.read() for blob in snapshot.manifests()] == [
        f"n: {number}".encode() for number in range(500)
    ]
    assert len(trips) < 12
    assert snapshot.blobs["0007.yaml"].read() == b"n: 7"


def test_threads_may_share_a_source(tree: Path) -> None:
    commit(tree, {f"{number}.yaml": "x" * number * 100 for number in range(100)})
    blobs = GitSource(tree).snapshot().blobs
    wrong: list[str] = []

    def read() -> None:
        for number in range(100):
            if blobs[f"{number}.yaml"].read() != b"x" * number * 100:
                wrong.append(f"{number}.yaml")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_entries_of_a_tree() -> None:
    raw = b"100644 a b.yaml\0" + b"\1" * 20 + b"40000 d\0" + b"\2" * 20
    assert [tuple(entry) for entry in entries_of(raw, 20)] == [
        ("100644", "a b.yaml", "01" * 20),
        ("40000", "d", "02" * 20),
    ]


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    git(tree, "init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    head = commit(tree, FILES)
    assert len(head) == 64
    source = GitSource(tree)
    assert source.head() == head
    assert contents(source.snapshot()) == FILES


# Hardening


def test_gits_environment_is_ours_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/elsewhere")
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    command = git_command(tmp_path, {}, "cat-file")
    assert command[:2] == ["env", "-i"]
    assert not any(word.startswith(("GIT_DIR=", "GIT_OBJECT", "LD_")) for word in command)
    for word in (
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_TERMINAL_PROMPT=0",
        "GIT_NO_REPLACE_OBJECTS=1",
        "core.hooksPath=/dev/null",
        "protocol.allow=never",
        f"safe.directory={tmp_path}",
    ):
        assert word in command


def test_a_misleading_environment_has_no_effect(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tree, FILES)
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.setenv(name, "/nowhere")
    assert contents(GitSource(tree).snapshot()) == FILES


def test_replaced_objects_are_read_as_they_were(tree: Path) -> None:
    commit(tree, {"a.yaml": "true"})
    (tree / "forged").write_text("forged")
    forged = git(tree, "hash-object", "-w", "forged")
    git(tree, "replace", git(tree, "rev-parse", "HEAD:a.yaml"), forged)
    assert contents(GitSource(tree).snapshot()) == {"a.yaml": "true"}


def test_objects_in_quarantine(tree: Path) -> None:
    commit(tree, FILES)
    path = bare(tree)
    pushed = commit(tree, {"a.yaml": "pushed"})
    environment = {
        "GIT_QUARANTINE_PATH": "/x",
        "GIT_OBJECT_DIRECTORY": str(tree / ".git" / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(path / "objects"),
        "GIT_DIR": ".",
    }
    with pytest.raises(SourceError, match="missing"):
        GitSource(path).snapshot(pushed)
    source = GitSource(path, environment=quarantine(environment))
    assert contents(source.snapshot(pushed))["a.yaml"] == "pushed"
    assert "GIT_DIR" not in quarantine(environment)


# Branches


def test_the_head_is_found_loose_packed_and_in_a_worktree(tree: Path) -> None:
    head = commit(tree, FILES)
    git(tree, "branch", "site/fra")
    git(tree, "worktree", "add", "--quiet", str(tree.parent / "worktree"), "site/fra")
    for _ in range(2):
        assert read_branch(locate(tree), "main") == head
        assert GitSource(tree, "site/fra").head() == head
        assert GitSource(tree.parent / "worktree", "site/fra").head() == head
        assert GitSource(tree, "site").head() is None
        git(tree, "pack-refs", "--all")
    later = commit(tree, {})
    assert GitSource(tree).head() == later
    assert contents(GitSource(tree.parent / "worktree", "site/fra").snapshot()) == FILES


def test_a_symbolic_branch_is_left_to_git(tree: Path) -> None:
    head = commit(tree, FILES)
    git(tree, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    assert read_branch(locate(tree), "alias") is UNREADABLE
    assert GitSource(tree, "alias").head() == head


def test_what_people_want_to_know_of_a_commit(tree: Path) -> None:
    id = commit(tree, {}, "Block the scanners\n\nThey came back.\n")
    info = GitSource(tree).describe(id)
    assert (info.id, info.short) == (id, id[:12])
    assert info.author == "Ada Writer"
    assert info.time == datetime.fromtimestamp(1700000060, UTC)
    assert info.subject == "Block the scanners"


# Following


def test_pushes_wake_and_are_taken(tree: Path) -> None:
    commit(tree, FILES)
    path = bare(tree)
    woken = threading.Event()
    follower = follow(GitSource(path), woken.set)
    follower.start()
    try:
        first = follower.snapshot()
        assert follower.snapshot() is first
        assert follower.settled
        for number in range(10):
            head = commit(tree, {"a.yaml": str(number)})
            woken.clear()
            if number == 5:
                git(path, "pack-refs", "--all")
            git(tree, "push", "--quiet", "--force", str(path), "main")
            assert woken.wait(5)
            assert follower.snapshot().revision == head
        woken.clear()
        git(tree, "push", "--quiet", str(path), "main:other")
        git(path, "gc", "--quiet")
        assert not woken.wait(0.1)
    finally:
        follower.stop()


def test_the_first_push_and_a_new_repository_wake(tree: Path) -> None:
    path = tree.parent / "late.git"
    woken = threading.Event()
    follower = follow(GitSource(path, "site/fra"), woken.set)
    follower.start()
    try:
        with pytest.raises(SourceError, match="is missing"):
            follower.snapshot()
        git(tree.parent, "init", "--quiet", "--bare", str(path))
        head = commit(tree, FILES)
        git(tree, "push", "--quiet", str(path), "main:site/fra")
        assert woken.wait(5)
        assert follower.snapshot().revision == head
        woken.clear()
        git(path, "update-ref", "-d", "refs/heads/site/fra")
        assert woken.wait(5)
        with pytest.raises(SourceError, match="no branch"):
            follower.snapshot()
        assert not follower.settled
    finally:
        follower.stop()
