"""Sets of addresses from several lists, remembered from pass to pass by what the lists hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from fos1d.compile.netset import NetSet, read_netset
from fos1d.compile.ranges import Ranges4, Ranges6
from fos1d.compile.set4 import Set4, build_set4
from fos1d.compile.set6 import Set6, build_set6
from fos1d.errors import ListError
from fos1d.model.snapshot import Blob

Network: TypeAlias = IPv4Network | IPv6Network
SetKey: TypeAlias = tuple[tuple[Network, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class AddressSet:
    """Merged ranges of both families, and the arrays made of them when somebody asks."""

    v4: Ranges4
    v6: Ranges6

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
        return build_set4(self.v4)

    @cached_property
    def set6(self) -> Set6:
        """The arrays of the IPv6 members."""
        return build_set6(self.v6)

    def sample(self) -> list[int | tuple[int, int]]:
        """Return a member of each family that has one: an int, or upper and lower half."""
        found: list[int | tuple[int, int]] = []
        if len(self.v4):
            found.append(int(self.v4.first[0]))
        if len(self.v6):
            found.append((int(self.v6.first_high[0]), int(self.v6.first_low[0])))
        return found

    def without_arrays(self) -> AddressSet:
        """Return the same set without the arrays, which are large and seldom wanted twice."""
        slim = AddressSet(self.v4, self.v6)
        for name in ("digest4", "digest6"):
            if name in self.__dict__:
                slim.__dict__[name] = self.__dict__[name]
        return slim


@dataclass(slots=True)
class ListStore:
    """What was read before. One per daemon; a pass reads only lists that it has not seen."""

    read: Callable[[bytes], NetSet] = read_netset
    _files: dict[str, NetSet] = field(default_factory=dict)
    _sets: dict[SetKey, AddressSet] = field(default_factory=dict)
    _used: set[SetKey] = field(default_factory=set)
    _read: set[str] = field(default_factory=set)

    def set_of(self, networks: Sequence[Network], blobs: Sequence[Blob]) -> AddressSet:
        """Return the union of the networks and the lists.

        Raises ListError with the first wrong lines of a list.
        """
        key = (tuple(networks), tuple(blob.id for blob in blobs))
        if key not in self._sets:
            self._sets[key] = self._union(networks, blobs)
        self._used.add(key)
        return self._sets[key]

    def _union(self, networks: Sequence[Network], blobs: Sequence[Blob]) -> AddressSet:
        files = [self._flawless(blob) for blob in blobs]
        own4 = Ranges4.of(n for n in networks if isinstance(n, IPv4Network))
        own6 = Ranges6.of(n for n in networks if isinstance(n, IPv6Network))
        v4 = Ranges4.concatenated([own4, *(file.v4 for file in files)])
        v6 = Ranges6.concatenated([own6, *(file.v6 for file in files)])
        return AddressSet(v4.merged(), v6.merged())

    def problems_of(self, blob: Blob) -> tuple[tuple[int, str], ...]:
        """Return what is wrong in a list: line and message, at most 100."""
        return self._netset(blob).problems

    def _netset(self, blob: Blob) -> NetSet:
        if blob.id not in self._files:
            self._files[blob.id] = self.read(blob.read())
        self._read.add(blob.id)
        return self._files[blob.id]

    def _flawless(self, blob: Blob) -> NetSet:
        found = self._netset(blob)
        if found.problems:
            line, message = found.problems[0]
            raise ListError(f"{blob.path}:{line} {message}")
        return found

    def end_pass(self) -> None:
        """Forget what the pass did not ask for, and the arrays of what it did."""
        self._sets = {
            key: found.without_arrays() for key, found in self._sets.items() if key in self._used
        }
        self._files = {k: v for k, v in self._files.items() if k in self._read}
        self._used, self._read = set(), set()
