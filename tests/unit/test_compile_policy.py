"""Compiled policies, walked as the data path does, against the oracle."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fos1d.abi import PolicyAction, PolicyChain
from fos1d.kinds.policy_rules import RuleSource
from tests.classifier import Compiled, Walked, compiled, walked
from tests.oracle.draw import Extent, draw_direction, draw_packet, draw_policies
from tests.oracle.policy import Direction, Effect, Policies, Source, Verdict

EFFECTS: dict[PolicyAction, set[Effect]] = {
    PolicyAction.ACT_LOG: {"log"},
    PolicyAction.ACT_MARK: {"mark"},
    PolicyAction.ACT_LIMIT: {"limit", "count"},
    PolicyAction.ACT_ROUTE: {"route"},
}


def assert_same(policies: Policies, random: Random, packets: int) -> Compiled:
    found = compiled(policies)
    for place in sorted(policies.places):
        for _ in range(packets // len(policies.places)):
            assert_agree(policies, found, place, draw_direction(random), random)
    return found


def assert_agree(
    policies: Policies, found: Compiled, place: str, direction: Direction, random: Random
) -> None:
    packet = draw_packet(random, policies)
    said, meant = walked(found, place, direction, packet), policies.judge(place, direction, packet)
    assert is_same(said, meant), (packet, said, meant)


def is_same(said: Walked, meant: Verdict) -> bool:
    return (
        said.passes == meant.passes
        and _is_rule(said.by, meant.by)
        and len(said.effects) == len(meant.effects)
        and all(
            effect in EFFECTS[action] and _is_rule(source, other)
            for (action, source), (effect, other) in zip(said.effects, meant.effects, strict=True)
        )
    )


def _is_rule(source: RuleSource | None, other: Source | None) -> bool:
    if source is None or other is None:
        return source is None and other is None
    policy = other.policy
    return (
        (source.policy.namespace, source.policy.name) == (policy.namespace, policy.name)
        and source.direction == other.direction
        and source.index == other.index
    )


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_tables_say_what_policies_mean(random: Random) -> None:
    assert_same(draw_policies(random, Extent(2, 4, 4)), random, 20)


def test_tables_say_what_policies_mean_of_many_packets() -> None:
    for seed in range(12):
        random = Random(seed)
        assert_same(draw_policies(random, Extent(5, 12, 12)), random, 600)


@pytest.mark.slow
def test_tables_of_more_rules_than_a_summary_word_has() -> None:
    random = Random(1)
    policies = tuple(
        replace(policy, name=f"{policy.name}-{part}", ingress=policy.ingress or policy.egress)
        for part in range(6)
        for policy in draw_policies(random, Extent(3, 70, 70)).network
    )
    found = assert_same(Policies(policies), random, 90)
    assert len(found.rules.chains[PolicyChain.CHAIN_IN]) > 64 * 64
