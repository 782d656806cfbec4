"""Where a Git repository lies and what a branch points to, read from its files without git.

Formats: gitrepository-layout(5). A repository that keeps its refs otherwise (reftable) is git's own
business: `read_branch` says UNREADABLE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fos1d.errors import SourceError

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BAD_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[/.]$|^[-/.]|^$")
_HEADS = "refs/heads/"


class Elsewhere(Enum):
    """A branch whose ref only git itself can read."""

    UNREADABLE = "unreadable"


UNREADABLE = Elsewhere.UNREADABLE


@dataclass(frozen=True, slots=True)
class Layout:
    """A repository's own folder, and the one that it shares with its worktrees."""

    git_dir: Path
    common_dir: Path

    def ref_files(self, branch: str) -> list[Path]:
        """Return the files that change when `branch` moves."""
        shared = self.common_dir
        return [
            shared / _HEADS / branch,
            shared / "packed-refs",
            shared / "reftable" / "tables.list",
        ]


def is_commit_id(text: str) -> bool:
    """Tell whether `text` is a full object id, of SHA-1 or SHA-256."""
    return _ID.fullmatch(text) is not None


def check_branch(branch: str) -> str:
    """Return the branch's short name; raise SourceError where it cannot be one."""
    short = branch.removeprefix(_HEADS)
    if _BAD_BRANCH.search(short):
        raise SourceError(f"{branch!r} (source.branch) cannot be the name of a branch")
    return short


def locate(path: Path) -> Layout:
    """Find the repository at `path`: bare, or the folder that holds its .git.

    Raises SourceError where there is none.
    """
    if not path.is_dir():
        raise SourceError(
            f"{path} (source.path) is missing: make it with `fos1ctl repo init {path}`"
        )
    dot_git = path / ".git"
    try:
        git_dir = _pointed(dot_git) if dot_git.is_file() else dot_git if dot_git.is_dir() else path
        pointer = git_dir / "commondir"
        common_dir = (
            (git_dir / pointer.read_text().strip()).resolve() if pointer.is_file() else git_dir
        )
        found = (git_dir / "HEAD").is_file() and (common_dir / "objects").is_dir()
    except OSError as error:
        raise SourceError(f"{path} (source.path) cannot be read: {error}") from error
    if not found:
        raise SourceError(
            f"{path} (source.path) is no Git repository: make one with `fos1ctl repo init`, or set "
            'source.type to "directory"'
        )
    return Layout(git_dir, common_dir)


def _pointed(dot_git: Path) -> Path:
    """Follow a .git file, as worktrees have it."""
    text = dot_git.read_text().strip()
    return (dot_git.parent / text.removeprefix("gitdir:").strip()).resolve()


def read_branch(layout: Layout, branch: str) -> str | Elsewhere | None:
    """Return the commit that `branch` points to, None where it has none yet."""
    if (layout.common_dir / "reftable").is_dir():
        return UNREADABLE
    try:
        return _loose(layout, branch) or _packed(layout, branch)
    except OSError as error:
        raise SourceError(f"branch {branch} cannot be read: {error}") from error


def _loose(layout: Layout, branch: str) -> str | Elsewhere | None:
    try:
        text = (layout.common_dir / _HEADS / branch).read_text().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return text if is_commit_id(text) else UNREADABLE


def _packed(layout: Layout, branch: str) -> str | None:
    try:
        text = (layout.common_dir / "packed-refs").read_text()
    except FileNotFoundError:
        return None
    line = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(_HEADS + branch)}$", text, re.MULTILINE)
    return line[1] if line else None
