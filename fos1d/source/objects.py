"""Git objects, asked of one long-lived `git cat-file --batch-command` (git-cat-file(1))."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeVar

from fos1d.errors import SourceError

_ANSWER_S = 30.0
_ASKED_AT_ONCE = 200
_CHUNK_BYTES = 1 << 18

T = TypeVar("T")


class Entry(NamedTuple):
    """An entry of a tree; `mode` in octal digits as git writes it: 40000, 100644, ..."""

    mode: str
    name: str
    id: str


class _Died(Exception):
    """git went away, or does not answer."""


class Objects:
    """Reads objects by their ids. Threads may share it: they take turns."""

    def __init__(self, where: str, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._where = where
        self._spawn = spawn
        self._git: subprocess.Popen[bytes] | None = None
        self._read = bytearray()
        self._lock = threading.Lock()

    def content(self, kind: str, id: str) -> bytes:
        """Return an object's bytes; raise SourceError where it is missing, damaged or no `kind`."""
        return self.contents(kind, [id])[0]

    def contents(self, kind: str, ids: Sequence[str]) -> list[bytes]:
        """Return the bytes of a few hundred objects at most, in the order asked."""
        with self._lock:
            return self._twice(lambda: list(self._contents(kind, ids)))

    def sizes(self, ids: Sequence[str]) -> list[int]:
        """Return the sizes of objects in bytes, in the order asked."""
        with self._lock:
            return self._twice(lambda: list(self._sizes(ids)))

    def close(self) -> None:
        """End git; a later call starts another."""
        with self._lock:
            self._end()

    def _twice(self, ask: Callable[[], T]) -> T:
        """Ask; if git died meanwhile (killed, or its repository made anew), ask a new one."""
        try:
            return ask()
        except _Died:
            self._end()
        try:
            return ask()
        except _Died as error:
            said = self._end() or "it does not answer"
            raise SourceError(
                f"{self._where}: git cannot read it: {said} (try `git fsck`)"
            ) from error

    def _contents(self, kind: str, ids: Sequence[str]) -> Iterator[bytes]:
        self._write([f"contents {id}" for id in ids])
        for id in ids:
            found, size = self._header(id)
            content = self._take(size)
            self._take(1)
            if found != kind:
                self._refuse(id, f"is a {found}, not a {kind}")
            if id_of(kind, content, len(id)) != id:
                self._refuse(id, "is damaged (try `git fsck`)")
            yield content

    def _sizes(self, ids: Sequence[str]) -> Iterator[int]:
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            part = ids[start : start + _ASKED_AT_ONCE]
            self._write([f"info {id}" for id in part])
            for id in part:
                yield self._header(id)[1]

    def _write(self, lines: list[str]) -> None:
        """Send commands; so few that their answers fit into a pipe, or neither side could move."""
        if self._git is None:
            self._git = self._spawn()
        assert self._git.stdin is not None
        try:
            self._git.stdin.write("\n".join([*lines, "flush", ""]).encode())
            self._git.stdin.flush()
        except OSError as error:
            raise _Died from error

    def _header(self, id: str) -> tuple[str, int]:
        while (end := self._read.find(b"\n")) < 0:
            self._fill()
        words = self._take(end + 1).decode(errors="replace").split()
        if len(words) != 3 or words[0] != id:
            self._refuse(id, "is missing (try `git fsck`)")
        return words[1], int(words[2])

    def _refuse(self, id: str, why: str) -> NoReturn:
        """Give up, and end git, so that no answer is left over for a later question."""
        self._end()
        raise SourceError(f"{self._where}: Git object {id} {why}")

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            self._fill()
        content = bytes(memoryview(self._read)[:size])
        del self._read[:size]
        return content

    def _fill(self) -> None:
        assert self._git is not None
        assert self._git.stdout is not None
        fd = self._git.stdout.fileno()
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        if not waiting.poll(_ANSWER_S * 1000):
            raise _Died
        got = os.read(fd, _CHUNK_BYTES)
        if not got:
            raise _Died
        self._read += got

    def _end(self) -> str:
        """End git and return the last line that it complained."""
        git, self._git = self._git, None
        self._read.clear()
        if git is None:
            return ""
        git.kill()
        _, said = git.communicate()
        return said.decode(errors="replace").strip().rpartition("\n")[2]


def id_of(kind: str, content: bytes, digits: int) -> str:
    """Return the id that an object's content has in `digits` hexadecimal digits; git does not look
    when it reads."""
    digest = hashlib.sha1(usedforsecurity=False) if digits == 40 else hashlib.sha256()
    digest.update(f"{kind} {len(content)}\0".encode())
    digest.update(content)
    return digest.hexdigest()


def entries_of(tree: bytes, id_bytes: int) -> Iterator[Entry]:
    """Take a tree object apart; `id_bytes` is 20, or 32 in a repository of SHA-256.

    Raises ValueError where it is none.
    """
    at = 0
    while at < len(tree):
        space = tree.index(b" ", at)
        end = tree.index(b"\0", space)
        mode, name = tree[at:space].decode(), os.fsdecode(tree[space + 1 : end])
        at = end + 1 + id_bytes
        yield Entry(mode, name, tree[end + 1 : at].hex())
