"""The tree of cgroups below the cgroup2 root."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup. `path` is below the root, `.` the root itself; `owner` is a user id.

    It is `delegated` where somebody other than root may make cgroups of any name beside it.
    """

    path: str
    id: int
    owner: int
    delegated: bool


def walk(
    root: Path,
    path: str = ".",
    delegated: bool = False,
    entering: Callable[[str], None] = lambda _: None,
) -> Iterator[Cgroup]:
    """Yield the cgroup at `path` below `root` and all below it; what vanishes meanwhile is none.

    `entering` is called with each path before its children are looked for.
    """
    try:
        entering(path)
        info = (root / path).stat()
        names = sorted(entry.name for entry in os.scandir(root / path) if entry.is_dir())
    except OSError:
        return
    yield Cgroup(path, info.st_ino, info.st_uid, delegated)
    for name in names:
        yield from walk(root, join(path, name), delegated or info.st_uid != 0, entering)


def join(path: str, name: str) -> str:
    """Return the path of a child."""
    return name if path == "." else f"{path}/{name}"


def is_below(path: str, ancestor: str) -> bool:
    """Whether a cgroup is the ancestor or below it."""
    return ancestor in (".", path) or path.startswith(f"{ancestor}/")
