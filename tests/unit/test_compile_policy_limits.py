"""Edges of the policy compiler: the ends of number ranges, limits, equal output for equal input."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from random import Random

import numpy as np
import pytest

from fos1d import abi
from fos1d.abi import PolicyAction, PolicyRuleFlag, Vector
from fos1d.compile.policy import Chain, compile_chain, compile_chains
from fos1d.compile.policy_model import (
    Limit,
    Peers,
    Route,
    Rule,
    Service,
    merged,
    peers_of,
    service_spans,
)
from fos1d.compile.policy_sweep import first_seen
from fos1d.compile.policy_tables import bucket, policy_places, policy_tables
from fos1d.errors import PolicyLimit
from tests.classifier import find32, find128

ALL = frozenset({0})
TOP4, TOP6 = (1 << 32) - 1, (1 << 128) - 1
ALLOW, DENY = PolicyAction.ACT_ALLOW, PolicyAction.ACT_DENY


def random_rules(count: int, seed: int = 1) -> list[Rule]:
    random = Random(seed)
    return [_random_rule(random, number) for number in range(count)]


def _random_rule(random: Random, number: int) -> Rule:
    first = random.randrange(1 << 16)
    service = Service(random.choice((6, 17)), first, random.randrange(first, 1 << 16))
    if random.random() < 0.5:
        size = 1 << random.choice((0, 4, 8, 16))
        start = random.randrange(1 << 32) // size * size
        peers = Peers(v4=((start, start + size - 1),))
    else:
        size = 1 << random.choice((0, 64, 80))
        start = random.randrange(1 << 128) // size * size
        peers = Peers(v6=((start, start + size - 1),))
    return Rule(ALL, peers, (service,), random.choice((ALLOW, DENY)), counter=number)


def rows_at(chain: Chain, tables: dict[str, np.ndarray], family: int, address: int) -> list[int]:
    """Return the rules whose peers an address is among."""
    head = tables["policy_heads"][0]
    find = find32 if family == 4 else find128
    start = find(tables, head[f"peer{family}"], address)
    if start & Vector.VECTOR_ONE:
        return [start & Vector.ONE_NUMBER]
    start &= Vector.VECTOR_AT
    summary, word = (int(found) for found in np.append(chain.content, 0)[start : start + 2])
    return [rule for rule in range(len(chain.rules)) if summary and word >> rule & 1]


@pytest.mark.parametrize(("family", "top"), [(4, TOP4), (6, TOP6)])
def test_ends_of_the_address_space(family: int, top: int) -> None:
    spans = [((top, top),), ((0, 0),), ((0, top),), ((top - 1, top - 1),), ()]
    peers = [Peers(v4=s) if family == 4 else Peers(v6=s) for s in spans]
    rules = [Rule(ALL, found) for found in peers] + [Rule(ALL, None)]
    chain = compile_chain(rules, 1)
    tables = dict(policy_tables([chain]))
    assert rows_at(chain, tables, family, top) == [0, 2, 5]
    assert rows_at(chain, tables, family, top - 1) == [2, 3, 5]
    assert rows_at(chain, tables, family, 0) == [1, 2, 5]
    assert rows_at(chain, tables, family, top // 2) == [2, 5]
    assert rows_at(chain, tables, 10 - family, 0) == [5]


def test_no_rules_and_no_subjects() -> None:
    chain = compile_chain([], 3)
    assert (chain.words, chain.summary_words, chain.subjects.tolist()) == (
        0,
        0,
        [Vector.VECTOR_ALL] * 3,
    )
    assert compile_chain([Rule(frozenset())], 0).subjects.tolist() == []
    for table in policy_tables([chain]).values():
        assert len(table) >= 1


def test_equal_vectors_are_kept_once() -> None:
    ranges = tuple((n * 10, n * 10 + 4) for n in range(50_000))
    chain = compile_chain([Rule(ALL, Peers(v4=ranges)), Rule(ALL, Peers(v4=ranges[::2]))], 1000)
    assert len(chain.peer4.vectors) == 100_000
    # Of both rules, and of none, which has a summary only; the first one's is but a name.
    assert len(chain.content) == 3


def test_effects_are_told_by_subject() -> None:
    rules = [Rule(frozenset({0, 1})), Rule(frozenset({1}), action=PolicyAction.ACT_LOG)]
    assert compile_chain(rules, 3).has_effects.tolist() == [False, True, False]


def test_the_record_of_a_place() -> None:
    log = Rule(frozenset({1}), action=PolicyAction.ACT_LOG)
    chains = compile_chains([[log], [], [], []], 2)
    policed, acting = policy_places(chains, [(1, 0, 0, 0), (0, 0, 0, 8)])
    assert (policed["flags"].tolist(), acting["flags"].tolist()) == ([1, 0, 0, 0], [2, 0, 0, 8])
    assert acting["vector"][0] == chains[0].subjects[1]


def test_excepts_are_taken_out() -> None:
    blocks = [
        (ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"), ip_network("10.1.2.0/24"))),
        (ip_network("10.1.2.128/25"), ()),
        (ip_network("255.255.255.0/24"), (ip_network("255.255.255.254/31"),)),
        (ip_network("::/0"), (ip_network("::/1"), ip_network("8000::/1"))),
    ]
    found = peers_of(blocks)
    addresses = [f"{IPv4Address(first)}-{IPv4Address(last)}" for first, last in found.v4]
    assert addresses == [
        "10.0.0.0-10.0.255.255",
        "10.1.2.128-10.1.2.255",
        "10.2.0.0-10.255.255.255",
        "255.255.255.0-255.255.255.253",
    ]
    assert found.v6 == ()


def test_ranges_that_touch_are_one() -> None:
    assert merged([(5, 9), (0, 4), (11, 12), (6, 7)]) == ((0, 9), (11, 12))


def test_fragments_of_unknown_ports() -> None:
    fragment = (abi.Service.SERVICE_LATER + 6) << 16
    halves = (Service(6, 0, 99), Service(6, 100))
    assert (fragment, fragment) in service_spans(halves, ALLOW)
    assert (fragment, fragment) not in service_spans(halves[:1], ALLOW)
    assert (fragment, fragment) in service_spans(halves[:1], DENY)
    assert service_spans((), ALLOW) == ((0, TOP4),)


def test_too_many_rules() -> None:
    with pytest.raises(PolicyLimit, match="16384 rules") as caught:
        compile_chain([Rule(ALL)] * 16385, 1)
    assert caught.value.rule == 16384


def test_too_many_combinations_name_the_first_rule_beyond() -> None:
    rules, room = random_rules(300), 20_000
    with pytest.raises(PolicyLimit, match="MiB") as caught:
        compile_chain(rules, 1, room)
    compile_chain(rules[: caught.value.rule], 1, room)
    with pytest.raises(PolicyLimit):
        compile_chain(rules[: caught.value.rule + 1], 1, room)


def test_chains_share_the_room() -> None:
    rules = random_rules(100)
    need = compile_chain(rules, 1).content.nbytes
    compile_chains([rules, rules], 1, 2 * need)
    with pytest.raises(PolicyLimit):
        compile_chains([rules, rules], 1, 2 * need - 1)


def test_too_many_ipv6_ranges() -> None:
    ranges = tuple((n * 4, n * 4 + 1) for n in range(1_420_000))
    with pytest.raises(PolicyLimit, match="2834352 bounds"):
        compile_chain([Rule(ALL, Peers(v6=ranges))], 1)


def test_the_same_rules_make_the_same_tables() -> None:
    def content() -> list[bytes]:
        return [
            table.tobytes()
            for table in policy_tables([compile_chain(random_rules(200), 1)]).values()
        ]

    assert content() == content()


def test_vectors_are_numbered_as_they_appear() -> None:
    columns = np.array([7, 3, 7, 9, 3], np.uint64), np.zeros(5, np.uint64)
    first, number = first_seen(columns)
    assert (first.tolist(), number.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])


def test_rules_carry_their_limit_and_route() -> None:
    route = Route(3, next_hop=IPv6Address("2001:db8::1"))
    rules = [
        Rule(ALL, limit=Limit(10**9, 2514), stateful=False, counter=1 << 63),
        Rule(ALL, action=PolicyAction.ACT_ROUTE, route=Route(table=7), counter=2),
        Rule(ALL, action=PolicyAction.ACT_ROUTE, route=route, counter=3),
    ]
    tables = policy_tables([compile_chain(rules, 1)])
    limited, *routed = tables["policy_rules"]
    assert (limited["byte_cost"], limited["depth"]) == (512, 512_000)
    assert limited["flags"] == PolicyRuleFlag.RULE_LIMITED
    by_table, by_hop = (tables["policy_routes"][rule["route"]] for rule in routed)
    assert (by_table["table"], by_hop["ifindex"]) == (7, 3)
    assert by_hop["next_hop"].tobytes() == IPv6Address("2001:db8::1").packed


@pytest.mark.parametrize("bits_per_s", [1000, 10**6, 10**9, 10**10, 10**11])
def test_a_limits_rounding_is_below_three_percent(bits_per_s: int) -> None:
    cost, depth = bucket(Limit(bits_per_s, 1515))
    exact = 8e9 * (1 << abi.Time.TIME_SHIFT) / bits_per_s
    assert abs(cost / exact - 1) < 0.03
    assert depth == cost
