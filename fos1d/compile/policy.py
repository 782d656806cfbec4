"""The ordered rules of one direction -> a chain that bpf/include/fos1/classify.h walks.

A rule is one bit; its peers, its services and whose traffic it judges each select bit vectors,
and the first terminal bit of their conjunction decides. bpf/include/fos1/abi.h has the layout,
policy_tables.py writes it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import PolicyAction, Vector
from fos1d.compile.policy_model import (
    TERMINAL,
    Peers,
    Rule,
    service_spans,
)
from fos1d.compile.policy_sweep import (
    U32,
    U64,
    Columns,
    Places,
    Sweep,
    compact,
    first_seen,
    rule_keys,
    sweep,
)
from fos1d.compile.tree import level_bases
from fos1d.errors import PolicyLimit

MOST_RULES = int(abi.Size.POLICY_RULES)
MOST_VECTOR_BYTES = 256 << 20
MOST_LEVELS = int(abi.Size.TREE_LEVELS)
# Intervals of a leaf, and keys of a node above.
SHAPE32 = int(abi.Size.LEAF32_INTERVALS), int(abi.Size.TREE32_KEYS)
SHAPE128 = int(abi.Size.LEAF128_INTERVALS), int(abi.Size.TREE128_KEYS)

ANY = Peers(((0, (1 << 32) - 1),), ((0, (1 << 128) - 1),))
WORD_BITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """A dimension: the last value of each interval but the last, and each one's vector.

    `lasts` are sorted columns, 32-bit values or the high and low words of 128-bit ones.
    """

    lasts: tuple[U32] | tuple[U64, U64] = field(repr=False)
    vectors: U32 = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A compiled chain. `content` holds the vectors (policy_sweep.compact); they are named as
    abi.Vector says.

    `subjects` is the vector of each subject, `has_effects` whether any of its rules acts
    and goes on.
    """

    rules: tuple[Rule, ...] = field(repr=False)
    words: int
    summary_words: int
    peer4: Index
    peer6: Index
    service: Index
    subjects: U32 = field(repr=False)
    has_effects: npt.NDArray[np.bool_] = field(repr=False)
    content: U64 = field(repr=False)


def compile_chains(
    chains: Iterable[Sequence[Rule]],
    subject_count: int,
    most_bytes: int = MOST_VECTOR_BYTES,
) -> tuple[Chain, ...]:
    """Compile chains that share the memory for vectors.

    Raises PolicyLimit.
    """
    compiled: list[Chain] = []
    for number, rules in enumerate(chains):
        room = most_bytes - sum(chain.content.nbytes for chain in compiled)
        try:
            compiled.append(compile_chain(rules, subject_count, room))
        except PolicyLimit as excess:
            raise PolicyLimit(excess.limit, excess.rule, number) from None
    return tuple(compiled)


def compile_chain(
    rules: Sequence[Rule], subject_count: int, most_bytes: int = MOST_VECTOR_BYTES
) -> Chain:
    """Compile the rules of one direction, the first to decide first.

    Raises PolicyLimit, which names the limit and the first rule beyond it.
    """
    if len(rules) > MOST_RULES:
        raise PolicyLimit(f"{MOST_RULES} rules for one direction", MOST_RULES)
    plan = _plan(rules, subject_count)
    if limit := plan.excess(most_bytes):
        fits = range(len(rules) + 1)
        least = bisect_left(
            fits, True, key=lambda n: bool(_plan(rules[:n], subject_count).excess(most_bytes))
        )
        raise PolicyLimit(limit, least - 1)
    return plan.chain()


# Subjects


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The sets of subjects that rules have: `has[subject, set]`, and which set each rule has."""

    has: npt.NDArray[np.bool_]
    of_rule: Places

    def signatures(self, keys: Columns) -> Columns:
        """Return the signature of each subject."""
        return tuple(self._signature(key) for key in keys)

    def _signature(self, key: U64) -> U64:
        subjects, groups = self.has.shape
        of_group, found = np.zeros(groups, np.uint64), np.zeros(subjects, np.uint64)
        np.bitwise_xor.at(of_group, self.of_rule, key)
        subject, group = np.nonzero(self.has)
        np.bitwise_xor.at(found, subject, of_group[group])
        return found

    def totals(self, numbers: Places) -> Places:
        """Return the sum over the rules about each subject; each rule has a number."""
        of_group = np.zeros(self.has.shape[1], np.int64)
        np.add.at(of_group, self.of_rule, numbers)
        return self.has @ of_group

    def blocks(self, subjects: Places, words: int) -> Iterator[U64]:
        """Yield the vectors of some subjects."""
        for subject in subjects:
            marks = np.zeros(words * WORD_BITS, np.bool_)
            marks[: len(self.of_rule)] = self.has[subject][self.of_rule]
            yield np.packbits(marks, bitorder="little").view("<u8").reshape(1, -1)

    def any_of(self, rules: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return for each subject whether one of these rules is about it."""
        return np.asarray(self.has[:, np.unique(self.of_rule[rules])].any(axis=1))


def _groups(rules: Sequence[Rule], subject_count: int) -> _Groups:
    number: dict[frozenset[int], int] = {}
    of_rule = [number.setdefault(rule.subjects, len(number)) for rule in rules]
    has = np.zeros((subject_count, len(number)), np.bool_)
    for subjects, group in number.items():
        has[list(subjects), group] = True
    return _Groups(has, np.array(of_rule, np.int64))


# The plan: how many vectors there are, before any is made


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """All dimensions, which interval or subject shows each vector first, and who has which.

    Peers of IPv4, peers of IPv6, services and subjects stand behind each other.
    """

    rules: tuple[Rule, ...]
    sweeps: tuple[Sweep, Sweep, Sweep]
    groups: _Groups
    first: Places
    vector: Places

    @property
    def words(self) -> int:
        return -(-len(self.rules) // WORD_BITS)

    @property
    def summary_words(self) -> int:
        return -(-self.words // WORD_BITS)

    def most_bytes(self) -> int:
        """Return how many bytes the vectors have at most."""
        active = self._active()
        active = active[active != 1]
        return int((np.minimum(active, self.words) + self.summary_words).sum()) * 8

    def excess(self, most_bytes: int) -> str:
        """Return the limit that the rules exceed, in words; nothing if they exceed none."""
        if self.most_bytes() > most_bytes:
            return f"{MOST_VECTOR_BYTES >> 20} MiB for the combinations of rules"
        for found, (leaf, keys) in zip(self.sweeps, (SHAPE32, SHAPE128, SHAPE32), strict=True):
            if len(level_bases((found.intervals - 1) // leaf, keys)) > MOST_LEVELS:
                return f"{leaf * keys * (keys + 1) ** (MOST_LEVELS - 1)} bounds of ranges"
        return ""

    def chain(self) -> Chain:
        """Return the chain."""
        content, names = self._vectors()
        of_each = np.split(names[self.vector], self._cuts())
        acts = np.array([rule.action not in TERMINAL for rule in self.rules], np.bool_)
        return Chain(
            self.rules,
            self.words,
            self.summary_words,
            _index32(self.sweeps[0], of_each[0]),
            _index128(self.sweeps[1], of_each[1]),
            _index32(self.sweeps[2], of_each[2]),
            of_each[3],
            self.groups.any_of(acts),
            content,
        )

    def _parts(self) -> tuple[Sweep | _Groups, ...]:
        return (*self.sweeps, self.groups)

    def _cuts(self) -> Places:
        return np.cumsum([found.intervals for found in self.sweeps])

    def _active(self) -> Places:
        """Return how many rules each vector holds."""
        return self._totals(np.ones(len(self.rules), np.int64))

    def _totals(self, numbers: Places) -> Places:
        return np.concatenate([part.totals(numbers) for part in self._parts()])[self.first]

    def _vectors(self) -> tuple[U64, U32]:
        """Return the vectors that are kept, and the name of each."""
        active = self._active()
        is_kept = active != 1
        # Where there is one rule, its name is the sum of all.
        names = self._totals(_names_of_one(self.rules))
        content, starts = self._kept(self.first[is_kept])
        is_all = active[is_kept] == len(self.rules)
        names[is_kept] = starts | np.where(is_all, int(Vector.VECTOR_ALL), 0)
        return content, names.astype(np.uint32)

    def _kept(self, first: Places) -> tuple[U64, Places]:
        """Return some vectors, and where each begins."""
        if not self.words:
            return np.empty(0, np.uint64), np.zeros(len(first), np.int64)
        parts = [compact(rows) for rows in self._blocks(first)]
        lengths = np.concatenate([np.empty(0, np.int64), *(length for _, length in parts)])
        content = np.concatenate([np.empty(0, np.uint64), *(content for content, _ in parts)])
        return content, np.cumsum(lengths) - lengths

    def _blocks(self, first: Places) -> Iterator[U64]:
        cuts = np.append(0, self._cuts())
        bounds = np.append(np.searchsorted(first, cuts), len(first))
        for number, part in enumerate(self._parts()):
            places = first[bounds[number] : bounds[number + 1]] - cuts[number]
            yield from part.blocks(places, self.words)


def _names_of_one(rules: Sequence[Rule]) -> Places:
    """Return for each rule the name of the vector that holds it alone."""
    return np.array([number | _bits_of(rule) for number, rule in enumerate(rules)], np.int64)


def _bits_of(rule: Rule) -> int:
    return (
        Vector.VECTOR_ONE
        | Vector.ONE_ALLOWS * (rule.action == PolicyAction.ACT_ALLOW)
        | Vector.ONE_DENIES * (rule.action == PolicyAction.ACT_DENY)
        | Vector.ONE_STATEFUL * rule.stateful
        | Vector.ONE_LIMITED * (rule.limit is not None)
    )


def _plan(rules: Sequence[Rule], subject_count: int) -> _Plan:
    peers = [ANY if rule.peers is None else rule.peers for rule in rules]
    services = [service_spans(rule.services, rule.action) for rule in rules]
    sweeps = (
        sweep([found.v4 for found in peers], 32),
        sweep([found.v6 for found in peers], 128),
        sweep(services, 32),
    )
    groups = _groups(rules, subject_count)
    keys = rule_keys(len(rules), *_content(sweeps, groups))
    parts = [*(found.signatures(keys) for found in sweeps), groups.signatures(keys)]
    first, vector = first_seen(tuple(map(np.concatenate, zip(*parts, strict=True))))
    return _Plan(tuple(rules), sweeps, groups, first, vector)


def _content(sweeps: Iterable[Sweep], groups: _Groups) -> Iterable[npt.NDArray[Any]]:
    for found in sweeps:
        yield from (*found.lasts, found.at, found.rule)
    yield from (groups.of_rule, groups.has)


def _index32(found: Sweep, vectors: U32) -> Index:
    return Index((found.lasts[0].astype(np.uint32),), vectors)


def _index128(found: Sweep, vectors: U32) -> Index:
    high, low = found.lasts
    return Index((high, low), vectors)
