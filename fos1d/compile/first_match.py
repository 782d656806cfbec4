"""Networks in the order of who comes first -> entries of a longest-prefix match.

A longest-prefix match knows no order. Of the networks that anybody mentions, the longest that an
address lies in lies itself in all the others that the address lies in; so one answer for each
mentioned network is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
NOBODY = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """Who (not 0) wants the addresses in some networks but not those in others."""

    who: int
    takes: tuple[Network, ...]
    leaves: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class _Around:
    """A mentioned network, the wishes about all that it lies in, by place, and whose it is."""

    network: Network
    taking: frozenset[int]
    leaving: frozenset[int]
    answer: int

    def contains(self, network: Network) -> bool:
        shift = self.network.max_prefixlen - self.network.prefixlen
        own, other = int(self.network.network_address), int(network.network_address)
        return own >> shift == other >> shift


def first_match(wishes: Sequence[Wish]) -> dict[Network, int]:
    """Return whose each network is that the wishes are about: the first one's that takes it and
    does not leave it, or nobody's. Entries that say the same as what they lie in are left out.

    All networks must be of one IP version.
    """
    return {around.network: around.answer for around in _answers(wishes)}


def _answers(wishes: Sequence[Wish]) -> Iterator[_Around]:
    mentions = _mentions(wishes)
    stack: list[_Around] = []
    for network in sorted(mentions, key=lambda n: (int(n.network_address), n.prefixlen)):
        while stack and not stack[-1].contains(network):
            stack.pop()
        taking, leaving = mentions[network]
        if stack:
            taking, leaving = taking | stack[-1].taking, leaving | stack[-1].leaving
        first = min(taking - leaving, default=None)
        answer = NOBODY if first is None else wishes[first].who
        before = stack[-1].answer if stack else NOBODY
        stack.append(_Around(network, frozenset(taking), frozenset(leaving), answer))
        if answer != before:
            yield stack[-1]


def _mentions(wishes: Iterable[Wish]) -> dict[Network, tuple[set[int], set[int]]]:
    found: dict[Network, tuple[set[int], set[int]]] = {}
    for place, wish in enumerate(wishes):
        for network in wish.takes:
            found.setdefault(network, (set(), set()))[0].add(place)
        for network in wish.leaves:
            found.setdefault(network, (set(), set()))[1].add(place)
    return found
