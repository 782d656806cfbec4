"""A walk over the tables of policies, step by step as bpf/include/fos1/classify.h does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import PlaceFlag, PolicyAction, PolicyChain, Vector
from fos1d.compile.policy import Chain, compile_chains
from fos1d.compile.policy_model import TERMINAL, Route
from fos1d.compile.policy_tables import policy_tables
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.policy_rules import PolicyRules, RuleSource, Selected, policy_rules
from fos1d.model.identity import Origin
from tests.oracle.policy import WITH_PORTS, WITH_TYPES, Direction, NetworkPolicy, Packet, Policies
from tests.oracle.written import document_of

Tables = Mapping[str, npt.NDArray[Any]]
CHAINS: dict[Direction, tuple[PolicyChain, PolicyChain]] = {
    "ingress": (PolicyChain.CHAIN_IN, PolicyChain.CHAIN_RECEIVE),
    "egress": (PolicyChain.CHAIN_OUT, PolicyChain.CHAIN_SEND),
}


@dataclass(frozen=True)
class Compiled:
    """Policies as tables. Places are numbered in the order of their names."""

    rules: PolicyRules
    chains: tuple[Chain, ...]
    tables: Tables
    number: dict[str, int]


def compiled(policies: Policies) -> Compiled:
    """Take the oracle's policies the whole way from a manifest to tables."""
    number = {place: n for n, place in enumerate(sorted(policies.places))}
    selected = [_selected(p, number) for p in (*policies.network, *policies.container)]
    rules = policy_rules(
        selected, len(number), lambda *_: (), lambda route: Route(mark=route.mark or 0)
    )
    chains = compile_chains(rules.chains, len(number))
    return Compiled(rules, chains, policy_tables(chains), number)


def _selected(policy: Any, number: Mapping[str, int]) -> Selected:
    kind = EBPFNetworkPolicy if isinstance(policy, NetworkPolicy) else EBPFContainerPolicy
    resource = kind.model_validate(document_of(policy))
    subjects = frozenset(number[place] for place in policy.places)
    return Selected(resource, subjects, lambda _: Origin(f"{policy.name}.yaml"))


@dataclass(frozen=True)
class Walked:
    """What the tables say: whether it passes, the rule that decided, the effects before it."""

    passes: bool
    by: RuleSource | None
    effects: tuple[tuple[PolicyAction, RuleSource], ...]


def walked(found: Compiled, place: str, direction: Direction, packet: Packet) -> Walked:
    """Judge a packet by both layers, as far as no flow is needed."""
    effects: list[tuple[PolicyAction, RuleSource]] = []
    by: RuleSource | None = None
    for layer, chain in enumerate(CHAINS[direction]):
        passes, decided = _judge(found, chain, place, direction, packet, effects)
        by = decided if layer == 0 or not passes else by
        if not passes:
            return Walked(False, by, tuple(effects))
    return Walked(True, by, tuple(effects))


def _judge(
    found: Compiled,
    chain: PolicyChain,
    place: str,
    direction: Direction,
    packet: Packet,
    effects: list[tuple[PolicyAction, RuleSource]],
) -> tuple[bool, RuleSource | None]:
    routed = False
    for rule in _matching(found, chain, place, direction, packet):
        source = found.rules.sources[int(rule["counter"])]
        action = PolicyAction(int(rule["action"]))
        if action in TERMINAL:
            return action is PolicyAction.ACT_ALLOW, source
        if action is PolicyAction.ACT_ROUTE and routed:
            continue
        routed |= action is PolicyAction.ACT_ROUTE
        effects.append((action, source))
    flags = found.rules.flags[found.number[place]][chain]
    denying = PlaceFlag.PLACE_DEFAULT_DENY
    if chain in (PolicyChain.CHAIN_IN, PolicyChain.CHAIN_OUT):
        denying = PlaceFlag.PLACE_POLICED
    return not flags & denying, None


def _matching(
    found: Compiled, chain: PolicyChain, place: str, direction: Direction, packet: Packet
) -> Iterator[np.void]:
    tables, head = found.tables, found.tables["policy_heads"][chain]
    peer = int(packet.source if direction == "ingress" else packet.destination)
    vectors = (
        int(found.chains[chain].subjects[found.number[place]]),
        find128(tables, head["peer6"], peer)
        if packet.is_v6
        else find32(tables, head["peer4"], peer),
        find32(tables, head["service"], service_key(packet)),
    )
    if single := next((v for v in vectors if v & Vector.VECTOR_ONE), None):
        number = single & Vector.ONE_NUMBER
        if all(_holds(tables, head, vector, number) for vector in vectors):
            yield tables["policy_rules"][int(head["rule_base"]) + number]
        return
    starts = [int(head["vector_base"]) + (vector & Vector.VECTOR_AT) for vector in vectors]
    words_at = [start + int(head["summary_words"]) for start in starts]
    for summary in range(int(head["summary_words"])):
        marks = [int(tables["policy_words"][start + summary]) for start in starts]
        for low in _bits(marks[0] & marks[1] & marks[2]):
            before = [(mark & (1 << low) - 1).bit_count() for mark in marks]
            at = [word + skipped for word, skipped in zip(words_at, before, strict=True)]
            for bit in _bits(_conjunction(tables, at)):
                number = (summary * 64 + low) * 64 + bit
                yield tables["policy_rules"][int(head["rule_base"]) + number]
        words_at = [word + mark.bit_count() for word, mark in zip(words_at, marks, strict=True)]


def _holds(tables: Tables, head: np.void, vector: int, number: int) -> bool:
    if vector & Vector.VECTOR_ONE:
        return vector & Vector.ONE_NUMBER == number
    if vector & Vector.VECTOR_ALL:
        return True
    start, summaries = int(head["vector_base"]) + vector, int(head["summary_words"])
    content = tables["policy_words"][start : start + summaries]
    marks = sum(int(word) << 64 * place for place, word in enumerate(content))
    mark = 1 << number // 64
    at = start + summaries + (marks & mark - 1).bit_count()
    return bool(marks & mark) and bool(int(tables["policy_words"][at]) >> number % 64 & 1)


def _find_peer(tables: Tables, head: np.void, is_v6: bool, peer: int) -> int:
    return find128(tables, head["peer6"], peer) if is_v6 else find32(tables, head["peer4"], peer)


def _conjunction(tables: Tables, at: list[int]) -> int:
    words = tables["policy_words"]
    return int(words[at[0]] & words[at[1]] & words[at[2]])


def _bits(word: int) -> Iterator[int]:
    while word:
        lowest = word & -word
        yield lowest.bit_length() - 1
        word ^= lowest


def service_key(packet: Packet) -> int:
    """Return the number that the data path makes of a packet's service."""
    if packet.later_fragment:
        return (abi.Service.SERVICE_LATER + packet.protocol) << 16
    if packet.protocol in WITH_TYPES:
        return packet.protocol << 16 | packet.icmp_type << 8 | packet.icmp_code
    return packet.protocol << 16 | (packet.destination_port if packet.protocol in WITH_PORTS else 0)


def find32(tables: Tables, index: np.void, key: int) -> int:
    """Return the name of the vector of a 32-bit value."""

    def nodes(at: int) -> list[int]:
        return list(tables["policy_tree32"][at]["keys"].tolist())

    at = _leaf(index, nodes, key, 16)
    leaf = tables["policy_leaves32"][at]
    return int(leaf["vector"][sum(last < key for last in leaf["last"].tolist())])


def find128(tables: Tables, index: np.void, key: int) -> int:
    """Return the name of the vector of a 128-bit value."""
    leaf = tables["policy_leaves128"][
        _leaf(index, lambda at: _numbers(tables["policy_tree128"][at]), key, 8)
    ]
    return int(leaf["vector"][sum(last < key for last in _numbers(leaf))])


def _numbers(record: np.void) -> list[int]:
    both = zip(record["high"].tolist(), record["low"].tolist(), strict=True)
    return [high << 64 | low for high, low in both]


def _leaf(index: np.void, keys: Callable[[int], list[int]], key: int, width: int) -> int:
    offset = rank = 0
    for level in range(int(index["levels"])):
        offset = offset * (width + 1) + rank if level else 0
        rank = sum(below < key for below in keys(int(index["level_base"][level]) + offset))
    return int(index["leaves"]) + offset * width + rank
