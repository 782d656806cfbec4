"""Outside addresses that translations have now, and whose: what speaks of others has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.nat_state import Mask, in_rows, of_all_versions

Words: TypeAlias = npt.NDArray[np.unsignedinteger]
POLICY = np.dtype(abi.NAT_POLICY)
# NAT64 keeps its IPv4 addresses mapped into IPv6 (RFC 4291, 2.5.5.2).
MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Places:
    """The outside addresses of all, and those of each policy by its number; packed, those of IPv4
    mapped into IPv6, too. While one version of the rules takes over from another, those of both."""

    outsides: frozenset[bytes]
    of_policies: dict[int, set[bytes]] = field(default_factory=dict)

    def gone(self, addresses: Words, policies: Words, is_own: Mask) -> Mask:
        """Return which entries speak of an address that nobody has, or of a policy that is gone or,
        where the address must be its own, has another one. A number of 0 is no policy's."""
        found = ~_among(addresses, self.outsides)
        for number in np.unique(policies).tolist():
            mine = policies == number
            if number and number not in self.of_policies:
                found |= mine
            elif number:
                found |= mine & is_own & ~_among(addresses, self.of_policies[number])
        return found


def living_places(bpffs: Bpffs) -> Places:
    """Read which outside addresses there are."""
    places = Places(frozenset(_outsides(bpffs)))
    for key, value in of_all_versions(bpffs, "nat_policies"):
        # An array of one: a value alone would be in the byte order of this machine.
        policy = np.frombuffer(value, POLICY)
        mine = places.of_policies.setdefault(int.from_bytes(key, "little"), set())
        mine |= {*_both_forms(policy["external4"].tobytes()), policy["external6"].tobytes()}
    return places


def _outsides(bpffs: Bpffs) -> Iterable[bytes]:
    for key, _ in of_all_versions(bpffs, "nat_outsides4"):
        yield from _both_forms(key)
    for key, _ in of_all_versions(bpffs, "nat_outsides6"):
        yield key


def _both_forms(address: bytes) -> tuple[bytes, bytes]:
    return address, MAPPED + address


def _among(addresses: Words, wanted: Iterable[bytes]) -> Mask:
    """Return which addresses are among those wanted, of which few have their length."""
    rows = in_rows(addresses)
    found: Mask = np.zeros(len(rows), np.bool_)
    for one in sorted(wanted):
        if len(one) == 4 * rows.shape[1]:
            found |= (rows == np.frombuffer(one, ">u4")).all(axis=1)
    return found
