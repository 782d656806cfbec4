"""A Git repository on disk as a source: what a branch points to, without a checkout.

git runs with an environment of ours only (`env -i`): no configuration but the repository's, no
prompts, no hooks, no network, no replaced objects. Inside a pre-receive hook the pushed objects are
still in quarantine; `quarantine` picks the variables by which git finds them there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fos1d.errors import SourceError
from fos1d.model.snapshot import Blob, Snapshot
from fos1d.source.ahead import ReadAhead
from fos1d.source.names import (
    MAX_DEPTH,
    check_count,
    check_name,
    check_size,
    is_ignored,
    is_manifest,
    joined,
    normal_subpath,
)
from fos1d.source.objects import Entry, Objects, entries_of
from fos1d.source.refs import UNREADABLE, Layout, check_branch, is_commit_id, locate, read_branch

if TYPE_CHECKING:
    import git

_COMMAND_S = 30.0
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ATTR_NOSYSTEM": "1",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
_SETTINGS = {"core.hooksPath": "/dev/null", "protocol.allow": "never", "core.fsmonitor": "false"}
_QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")


def quarantine(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a hook must pass on for git to see the objects that are being pushed."""
    return {name: environment[name] for name in _QUARANTINE if name in environment}


def git_command(git_dir: Path, environment: Mapping[str, str], *args: str) -> list[str]:
    """Return the command that runs git on one repository and on nothing else."""
    variables = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **environment}
    settings = {**_SETTINGS, "safe.directory": str(git_dir)}
    return [
        "env",
        "-i",
        *(f"{name}={value}" for name, value in variables.items()),
        "git",
        f"--git-dir={git_dir}",
        *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
        *args,
    ]


def run_git(git_dir: Path, environment: Mapping[str, str], *args: str) -> tuple[int, str, str]:
    """Run git to its end and return its exit code, what it said and what it complained."""
    command = git_command(git_dir, environment, *args)
    status, said, complained = _gitpython().execute(
        command, with_extended_output=True, with_exceptions=False, kill_after_timeout=_COMMAND_S
    )
    return status, str(said), complained


def _spawn_objects(git_dir: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start git; not by GitPython, whose import takes longer than many a push."""
    command = git_command(git_dir, environment, "cat-file", "--batch-command", "--buffer")
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise SourceError(f"git cannot be run: {error}; install it (apt install git)") from error


def _gitpython() -> git.Git:
    """Return GitPython's runner; its import runs git once and takes a tenth of a second."""
    try:
        import git
    except ImportError as error:
        raise SourceError(f"git cannot be run: {error}; install it (apt install git)") from error
    return git.Git()


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """What people want to know of a commit; `time` is when it was committed."""

    id: str
    short: str
    author: str
    time: datetime
    subject: str


@dataclass(frozen=True, slots=True)
class _Folder:
    """A tree object, read: its files by their full path, its folders by name and tree id."""

    blobs: dict[str, Blob]
    folders: tuple[tuple[str, str], ...]


class GitSource:
    """The files below `subpath` on a branch of a repository, bare or with a work tree.

    Paths in a snapshot count from the root of the repository. `environment` is passed to git.
    """

    def __init__(
        self,
        path: Path,
        branch: str = "main",
        subpath: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path.absolute()
        self.branch = check_branch(branch)
        self.subpath = normal_subpath(subpath)
        self._environment = dict(environment or {})
        self._objects = Objects(str(self.path), self._spawn)
        self._ahead = ReadAhead(self._objects)
        self._folders: dict[tuple[str, str], _Folder] = {}

    def layout(self) -> Layout:
        """Find the repository; raise SourceError where there is none."""
        return locate(self.path)

    def close(self) -> None:
        """End the git that reads objects; a later snapshot starts another."""
        self._objects.close()

    def head(self) -> str | None:
        """Return the commit that the branch points to, None where it has none yet."""
        found = read_branch(self.layout(), self.branch)
        if found is not UNREADABLE:
            return found
        status, said, complained = self._run(
            "rev-parse", "--verify", "--quiet", f"refs/heads/{self.branch}^{{commit}}"
        )
        if status and complained:
            raise SourceError(f"{self.path}: branch {self.branch} cannot be read: {complained}")
        return said or None

    def snapshot(self, commit: str | None = None) -> Snapshot:
        """Return the files of `commit`, by default of the one that the branch points to.

        Raises SourceError where the repository, branch, commit or folder is missing or damaged,
        and for symlinks and submodules.
        """
        commit = commit or self.head() or self._unborn()
        if not is_commit_id(commit):
            raise SourceError(f"{commit!r} is not the full id of a commit")
        tree = self._tree_of(commit)
        folders: dict[tuple[str, str], _Folder] = {}
        blobs: dict[str, Blob] = {}
        for key, folder in self._walk(self.subpath, tree, 0):
            folders[key] = folder
            blobs.update(folder.blobs)
            check_count(len(blobs))
        self._expect(folders)
        self._folders = folders
        return Snapshot(commit, blobs)

    def _expect(self, folders: Mapping[tuple[str, str], _Folder]) -> None:
        """Expect that the manifests are read that the last snapshot did not have."""
        new = [
            blob for key in folders.keys() - self._folders for blob in folders[key].blobs.values()
        ]
        if not new:
            return
        had = {blob.id for folder in self._folders.values() for blob in folder.blobs.values()}
        wanted = [blob for blob in new if is_manifest(blob.path) and blob.id not in had]
        self._ahead.expect(sorted(wanted, key=lambda blob: blob.path))

    def describe(self, commit: str) -> CommitInfo:
        """Return who committed what, and when."""
        header, _, message = self._commit(commit).partition("\n\n")
        fields = dict(line.partition(" ")[::2] for line in reversed(header.splitlines()))
        author = fields["author"].rpartition(" <")[0]
        seconds = int(fields["committer"].split()[-2])
        subject = message.strip().partition("\n")[0]
        return CommitInfo(
            commit, commit[:12], author, datetime.fromtimestamp(seconds, UTC), subject
        )

    def _run(self, *args: str) -> tuple[int, str, str]:
        return run_git(self.layout().git_dir, self._environment, *args)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return _spawn_objects(self.layout().git_dir, self._environment)

    def _unborn(self) -> str:
        _, said, _ = self._run(
            "for-each-ref", "--count=10", "--format=%(refname:short)", "refs/heads"
        )
        others = f"it has {', '.join(said.split())}" if said else "nothing was pushed yet"
        raise SourceError(f"{self.path} has no branch {self.branch} (source.branch): {others}")

    def _commit(self, commit: str) -> str:
        return self._objects.content("commit", commit).decode(errors="replace")

    def _tree_of(self, commit: str) -> str:
        """Return the id of the tree at `subpath` of a commit."""
        tree = self._commit(commit).partition("\n")[0].removeprefix("tree ")
        for part in filter(None, self.subpath.split("/")):
            entries = {entry.name: entry for entry in self._entries(tree)}
            if part not in entries or entries[part].mode != "40000":
                raise SourceError(
                    f"commit {commit[:12]} has no folder {self.subpath} (source.subpath)"
                )
            tree = entries[part].id
        return tree

    def _entries(self, tree: str) -> list[Entry]:
        content = self._objects.content("tree", tree)
        try:
            return list(entries_of(content, len(tree) // 2))
        except ValueError as error:
            raise SourceError(f"{self.path}: git tree {tree} is damaged: {error}") from error

    def _walk(self, path: str, tree: str, depth: int) -> Iterator[tuple[tuple[str, str], _Folder]]:
        """Yield the folder at `path` and all below it; what is known by its id is not read."""
        if depth > MAX_DEPTH:
            raise SourceError(f"{path} lies more than {MAX_DEPTH} folders deep")
        key = path, tree
        folder = self._folders.get(key) or self._read_folder(path, tree)
        yield key, folder
        for name, below in folder.folders:
            yield from self._walk(joined(path, name), below, depth + 1)

    def _read_folder(self, path: str, tree: str) -> _Folder:
        files, folders = [], []
        for entry in self._entries(tree):
            if is_ignored(entry.name, entry.mode == "40000"):
                continue
            _check_entry(joined(path, entry.name), entry)
            if entry.mode == "40000":
                folders.append((entry.name, entry.id))
            else:
                files.append(entry)
        sizes = self._objects.sizes([entry.id for entry in files])
        found = [
            self._blob(joined(path, entry.name), entry.id, size)
            for entry, size in zip(files, sizes, strict=True)
        ]
        return _Folder({blob.path: blob for blob in found}, tuple(folders))

    def _blob(self, path: str, id: str, size_bytes: int) -> Blob:
        check_size(path, size_bytes)
        return Blob(path, id, size_bytes, partial(self._ahead.read, id))


def _check_entry(path: str, entry: Entry) -> None:
    check_name(entry.name, path)
    if entry.mode == "120000":
        raise SourceError(f"{path} is a symlink, which is not followed: commit the file itself")
    if entry.mode == "160000":
        raise SourceError(f"{path} is a submodule, which is not read: commit the files themselves")
