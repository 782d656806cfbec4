"""Compiled chains -> the content of the frozen arrays that bpf/include/fos1/classify.h reads.

The keys of the trees are the last values of leaves, and these hold the last values of intervals, so
that a value's interval is how many are below it (not: not above it), and a spare one, all ones, is
below nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import PlaceFlag
from fos1d.abi import PolicyRuleFlag as Flag
from fos1d.compile.policy import Chain, Index
from fos1d.compile.policy_model import Limit, Route, Rule
from fos1d.compile.tree import Column, build_tree, level_bases

Table = npt.NDArray[Any]

HEAD = np.dtype(abi.POLICY_CHAIN_HEAD)
RULE = np.dtype(abi.POLICY_RULE)
ROUTE = np.dtype(abi.POLICY_ROUTE)
NODE32 = np.dtype(abi.TREE32_NODE)
NODE128 = np.dtype(abi.SET6_NODE)
LEAF32, LEAF128 = np.dtype(abi.LEAF32), np.dtype(abi.LEAF128)
PLACE = np.dtype(abi.PLACE)

# On the wire, as a limit counts it.
FULL_PACKET_BYTES = 1514


@dataclass(slots=True)
class _Arrays:
    """The arrays that all chains share, in the making: parts, and how long they are together."""

    parts: dict[str, list[Table]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    def append(self, name: str, part: Table) -> int:
        """Put a part behind the others and return where it begins."""
        begins = self.lengths.get(name, 0)
        self.parts.setdefault(name, []).append(part)
        self.lengths[name] = begins + len(part)
        return begins

    def whole(self, name: str, element: np.dtype[Any]) -> Table:
        """Return the whole array; an array of the kernel's has at least one element."""
        parts = [part for part in self.parts.get(name, []) if len(part)]
        match parts:
            case []:
                return np.zeros(1, element)
            case [only] if only.dtype == element:
                return only
            case _:
                # The type is given, since concatenation turns network order into the machine's.
                return np.concatenate(parts, dtype=element)


def policy_tables(chains: Sequence[Chain]) -> Mapping[str, Table]:
    """Return the content of each map, by its name, for the chains in the order of their numbers."""
    arrays, heads = _Arrays(), np.zeros(len(chains), HEAD)
    routes = sorted({rule.route for chain in chains for rule in chain.rules if rule.route}, key=str)
    number = {route: place for place, route in enumerate(routes)}
    heads["all_rules"] = sum(len(chain.rules) for chain in chains)
    for head, chain in zip(heads, chains, strict=True):
        _fill_head(head, chain, arrays)
        rules = _rules(chain.rules, number)
        head["rule_base"] = arrays.append("policy_rules", rules)
    arrays.append("policy_routes", _routes(routes))
    return {
        "policy_heads": heads,
        "policy_rules": arrays.whole("policy_rules", RULE),
        "policy_words": arrays.whole("policy_words", np.dtype("<u8")),
        "policy_leaves32": arrays.whole("policy_leaves32", LEAF32),
        "policy_leaves128": arrays.whole("policy_leaves128", LEAF128),
        "policy_tree32": arrays.whole("policy_tree32", NODE32),
        "policy_tree128": arrays.whole("policy_tree128", NODE128),
        "policy_routes": arrays.whole("policy_routes", ROUTE),
    }


def policy_places(chains: Sequence[Chain], flags: Sequence[Sequence[int]]) -> Table:
    """Return the record of each place, from its flags by chain; EFFECTS is added."""
    table = np.zeros(len(flags), PLACE)
    table["flags"] = np.array(flags, np.uint32).reshape(table["flags"].shape)
    for number, chain in enumerate(chains):
        table["vector"][:, number] = chain.subjects
        table["flags"][:, number] |= np.uint32(PlaceFlag.PLACE_EFFECTS) * chain.has_effects
    return table


def _fill_head(head: np.void, chain: Chain, arrays: _Arrays) -> None:
    head["words"], head["summary_words"] = chain.words, chain.summary_words
    head["has_limits"] = any(rule.limit for rule in chain.rules)
    head["vector_base"] = arrays.append("policy_words", chain.content)
    for name, index in (("peer4", chain.peer4), ("service", chain.service)):
        _fill_index(head[name], index, SHAPE32, arrays)
    _fill_index(head["peer6"], chain.peer6, SHAPE128, arrays)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a dimension is written as: its tables, their records, and the columns of each."""

    leaves: str
    leaf: np.dtype[Any]
    lasts: tuple[str, ...]
    intervals: int
    tree: str
    node: np.dtype[Any]
    keys: tuple[str, ...]


SHAPE32 = _Shape(
    "policy_leaves32",
    LEAF32,
    ("last",),
    int(abi.Size.LEAF32_INTERVALS),
    "policy_tree32",
    NODE32,
    ("keys",),
)
SHAPE128 = _Shape(
    "policy_leaves128",
    LEAF128,
    ("high", "low"),
    int(abi.Size.LEAF128_INTERVALS),
    "policy_tree128",
    NODE128,
    ("high", "low"),
)


def _fill_index(record: np.void, index: Index, shape: _Shape, arrays: _Arrays) -> None:
    size = shape.intervals
    record["leaves"] = arrays.append(shape.leaves, _leaves(index, shape))
    above = [column[size - 1 :: size] for column in index.lasts]
    if not len(above[0]):
        return
    columns: dict[str, Column] = dict(zip(shape.keys, above, strict=True))
    base = arrays.append(shape.tree, build_tree(columns, shape.node))
    bases = level_bases(len(above[0]), shape.node[shape.keys[0]].shape[0])
    record["levels"] = len(bases)
    record["level_base"][: len(bases)] = [base + level for level in bases]


def _leaves(index: Index, shape: _Shape) -> Table:
    """Return the leaves of a dimension; the last interval ends with the numbers."""
    size, count = shape.intervals, len(index.vectors)
    leaves = np.zeros(-(-count // size), shape.leaf)
    columns: dict[str, Column] = dict(zip(shape.lasts, index.lasts, strict=True))
    for name, column in columns.items():
        spare = np.full(len(leaves) * size - len(column), np.iinfo(column.dtype).max, column.dtype)
        leaves[name] = np.concatenate([column, spare]).reshape(-1, size)
    vectors = np.concatenate([index.vectors, np.zeros(len(leaves) * size - count, np.uint32)])
    leaves["vector"][:, :size] = vectors.reshape(-1, size)
    return leaves


def _rules(rules: Sequence[Rule], number: Mapping[Route, int]) -> Table:
    table = np.zeros(len(rules), RULE)
    table["counter"] = [rule.counter for rule in rules]
    table["action"] = [rule.action for rule in rules]
    table["dscp"] = [rule.dscp for rule in rules]
    table["flags"] = [_flags(rule) for rule in rules]
    table["route"] = [number[rule.route] if rule.route else 0 for rule in rules]
    buckets = [bucket(rule.limit) if rule.limit else (0, 0) for rule in rules]
    table["byte_cost"] = [cost for cost, _ in buckets]
    table["depth"] = [depth for _, depth in buckets]
    return table


def _flags(rule: Rule) -> int:
    return Flag.RULE_STATEFUL * rule.stateful | Flag.RULE_LIMITED * (rule.limit is not None)


def bucket(limit: Limit) -> tuple[int, int]:
    """Return the bucket time that a byte takes, and how much may wait before a full packet."""
    second = int(abi.Time.NS_PER_SECOND) << abi.Time.TIME_SHIFT
    cost = max(1, round(8 * second / limit.bits_per_s))
    return cost, cost * max(0, limit.burst_bytes - FULL_PACKET_BYTES)


def _routes(routes: Sequence[Route]) -> Table:
    table = np.zeros(len(routes), ROUTE)
    for record, route in zip(table, routes, strict=True):
        record["ifindex"] = route.ifindex
        record["table"], record["mark"] = route.table, route.mark
        if route.next_hop is not None:
            words = np.frombuffer(route.next_hop.packed, ">u4")
            record["next_hop"][: len(words)] = words
    return table
