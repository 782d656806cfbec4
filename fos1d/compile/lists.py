"""Sets of addresses from several lists, remembered from pass to pass by what the lists hold.

Of a big list its bytes are remembered too, so that its next version is read only where it differs;
what was made of the rest is shared (compile/shards.py, compile/members.py). For a million IPv4
lines that is up to 17 MB of bytes, 8 of ranges and 12 of arrays; for a million IPv6 lines 20 to 40
of bytes and at most 64 of ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from fos1d.compile.edits import Edit, edit_between
from fos1d.compile.members import Members4, Members6, members4, members6
from fos1d.compile.netset import NetSet, read_netset
from fos1d.compile.ranges import Ranges4, Ranges6
from fos1d.compile.set4 import Set4
from fos1d.compile.set6 import Set6
from fos1d.compile.shards import changed, shards_of
from fos1d.errors import ListError
from fos1d.model.snapshot import Blob

Network: TypeAlias = IPv4Network | IPv6Network
SetKey: TypeAlias = tuple[tuple[Network, ...], tuple[str, ...]]

BIG_BYTES = 1 << 17
"""Lists of this size and more are worth remembering their bytes."""


@dataclass(frozen=True, eq=False)
class AddressSet:
    """Members of both families, and the arrays made of them when somebody asks."""

    v4: Members4
    v6: Members6

    @cached_property
    def digest4(self) -> str:
        """Digest of the IPv4 members."""
        return self.v4.digest()

    @cached_property
    def digest6(self) -> str:
        """Digest of the IPv6 members."""
        return self.v6.digest()

    @cached_property
    def set4(self) -> Set4:
        """The arrays of the IPv4 members."""
        return self.v4.arrays()

    @cached_property
    def set6(self) -> Set6:
        """The arrays of the IPv6 members."""
        return self.v6.arrays()

    def sample(self) -> list[int | tuple[int, int]]:
        """Return a member of each family that has one: an int, or upper and lower half."""
        found: list[int | tuple[int, int]] = []
        if self.v4.parts:
            found.append(self.v4.first())
        if self.v6.parts:
            found.append(self.v6.first())
        return found

    def without_arrays(self) -> AddressSet:
        """Return the same set without the arrays, which are large and soon put together again."""
        slim = AddressSet(self.v4, self.v6)
        for name in ("digest4", "digest6"):
            if name in self.__dict__:
                slim.__dict__[name] = self.__dict__[name]
        return slim


@dataclass(frozen=True, slots=True, eq=False)
class ReadList:
    """A list as it was read: its ranges by first octet, and what is wrong in it."""

    v4: Mapping[int, Ranges4] = field(repr=False)
    v6: Mapping[int, Ranges6] = field(repr=False)
    problems: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, netset: NetSet) -> ReadList:
        """Return a netset by first octets."""
        return cls(shards_of(netset.v4), shards_of(netset.v6), netset.problems)

    def edited(self, removed: NetSet, added: NetSet) -> ReadList:
        """Return the list with lines added in place of others, and the problems of the added."""
        return ReadList(
            changed(self.v4, removed.v4, added.v4),
            changed(self.v6, removed.v6, added.v6),
            added.problems,
        )


@dataclass(frozen=True, slots=True)
class Text:
    """The bytes of a list, in parts: an edited one is put together when the pass is over."""

    id: str
    parts: tuple[bytes | memoryview, ...] = field(repr=False)

    @classmethod
    def edited(cls, id: str, before: bytes, edit: Edit) -> Text:
        """Return the text that an edit makes of another."""
        old = memoryview(before)
        return cls(id, (old[: edit.begin], edit.text, old[edit.end :]))

    def whole(self) -> bytes:
        """Return the bytes in one."""
        only = self.parts[0]
        return only if isinstance(only, bytes) else b"".join(self.parts)


@dataclass(slots=True)
class ListStore:
    """What was read before. One per daemon; a pass reads only lists that it has not seen.

    `_lists` are by the id of their content, `_texts` by path: the newest version of a big list
    that had no mistakes.
    """

    read: Callable[[bytes], NetSet] = read_netset
    _lists: dict[str, ReadList] = field(default_factory=dict)
    _texts: dict[str, Text] = field(default_factory=dict)
    _own: dict[tuple[Network, ...], ReadList] = field(default_factory=dict)
    _sets: dict[SetKey, AddressSet] = field(default_factory=dict)
    _used: set[SetKey] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    def apart(self) -> ListStore:
        """Return a store that knows what this one knows, and learns for itself."""
        return ListStore(
            self.read, dict(self._lists), dict(self._texts), dict(self._own), dict(self._sets)
        )

    def set_of(self, networks: Sequence[Network], blobs: Sequence[Blob]) -> AddressSet:
        """Return the union of the networks and the lists.

        Raises ListError with the first wrong lines of a list.
        """
        key = (tuple(networks), tuple(blob.id for blob in blobs))
        if key not in self._sets:
            self._sets[key] = self._union(key[0], blobs)
        self._used.add(key)
        return self._sets[key]

    def _union(self, networks: tuple[Network, ...], blobs: Sequence[Blob]) -> AddressSet:
        lists = [self._own_list(networks), *(self._flawless(blob) for blob in blobs)]
        known = list(self._sets.values())
        return AddressSet(
            members4([one.v4 for one in lists], [old.v4 for old in known]),
            members6([one.v6 for one in lists], [old.v6 for old in known]),
        )

    def _own_list(self, networks: tuple[Network, ...]) -> ReadList:
        if networks not in self._own:
            own4 = Ranges4.of(n for n in networks if isinstance(n, IPv4Network))
            own6 = Ranges6.of(n for n in networks if isinstance(n, IPv6Network))
            self._own[networks] = ReadList.of(NetSet(own4, own6))
        return self._own[networks]

    def problems_of(self, blob: Blob) -> tuple[tuple[int, str], ...]:
        """Return what is wrong in a list: line and message, at most 100."""
        return self._list(blob).problems

    def _list(self, blob: Blob) -> ReadList:
        if blob.id not in self._lists:
            self._lists[blob.id] = self._read(blob)
        self._asked.add(blob.id)
        return self._lists[blob.id]

    def _read(self, blob: Blob) -> ReadList:
        if known := self._reread(blob):
            return known
        data = blob.read()
        found = ReadList.of(self.read(data))
        if len(data) >= BIG_BYTES and not found.problems:
            self._texts[blob.path] = Text(blob.id, (data,))
        return found

    def _reread(self, blob: Blob) -> ReadList | None:
        """Return a new version of a list by what differs, unless that is nearly all."""
        kept = self._texts.get(blob.path)
        if kept is None or kept.id not in self._lists:
            return None
        before = kept.whole()
        edit = edit_between(before, blob.size_bytes, blob.pieces(), blob.size_bytes // 4)
        if edit is None:
            return None
        removed, added = self.read(before[edit.begin : edit.end]), self.read(edit.text)
        if added.problems:
            above = before.count(b"\n", 0, edit.begin)
            added = replace(added, problems=tuple((above + n, m) for n, m in added.problems))
        else:
            self._texts[blob.path] = Text.edited(blob.id, before, edit)
        return self._lists[kept.id].edited(removed, added)

    def _flawless(self, blob: Blob) -> ReadList:
        found = self._list(blob)
        if found.problems:
            line, message = found.problems[0]
            raise ListError(f"{blob.path}:{line} {message}")
        return found

    def end_pass(self) -> None:
        """Forget what the pass did not ask for, and the arrays of what it did."""
        self._sets = {
            key: found.without_arrays() for key, found in self._sets.items() if key in self._used
        }
        self._own = {networks: self._own_list(networks) for networks, _ in self._sets}
        asked = self._asked.union(*(blobs for _, blobs in self._sets))
        self._lists = {key: found for key, found in self._lists.items() if key in asked}
        self._texts = {
            path: Text(kept.id, (kept.whole(),))
            for path, kept in self._texts.items()
            if kept.id in self._lists
        }
        self._used, self._asked = set(), set()
