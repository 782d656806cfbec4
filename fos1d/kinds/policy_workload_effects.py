"""What network policies do to packets of workloads besides judging them: marks and routes.

A cgroup's programs cannot change packets. What workloads send is changed where it leaves the
router, on every interface, by the socket that it still has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fos1d.abi import PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.network_policy import Direction, EBPFNetworkPolicy, PolicyRule
from fos1d.kinds.policy_places import LOOPBACK, Place, Places
from fos1d.model.facts import Facts, Interface
from fos1d.model.identity import ResourceId
from fos1d.model.objects import BuiltIn

CHANGING = BuiltIn("tc_workload", "fos1_tc_workload_out")
# Before the interfaces' own rules, which then judge a packet where it really leaves.
CHANGING_ORDER = 1


@dataclass(frozen=True, slots=True)
class Effect:
    """A rule that changes or redirects packets: `what` it does, and where it stands."""

    what: str
    way: Direction
    index: int

    def __str__(self) -> str:
        return f"{self.way}[{self.index}]: {self.what}"


def effects_of(policy: EBPFNetworkPolicy) -> Iterator[Effect]:
    """Yield the rules of a policy that change or redirect packets."""
    for way, rules in policy.spec.directions():
        for index, rule in enumerate(rules):
            if what := _effect(policy, rule):
                yield Effect(what, way, index)


def _effect(policy: EBPFNetworkPolicy, rule: PolicyRule) -> str:
    if rule.action == "mark":
        return "mark"
    is_route = policy.spec.policy_type == "routing" and rule.action == "allow"
    return "policyType routing" if is_route else ""


def workloads_of(policy: ResourceId, places: Places, apart: bool) -> tuple[Place, ...]:
    """Return the workloads that a policy selects: those `apart`, whose own addresses tell that
    their sockets are behind another interface, or those that use the router's."""
    return tuple(
        place
        for place in places.selected.get(policy, ())
        if place.kind is PlaceKind.PLACE_CGROUP and places.answers_for_router(place) is not apart
    )


def changing(active: Sequence[Accepted], places: Places) -> list[ResourceId]:
    """Return the policies that change what workloads send."""
    return [
        accepted.id
        for accepted in active
        if isinstance(policy := accepted.declaration.resource, EBPFNetworkPolicy)
        and any(effect.way == "egress" for effect in effects_of(policy))
        and workloads_of(accepted.id, places, apart=False)
    ]


def changing_at(facts: Facts) -> list[Interface]:
    """Return the interfaces by which packets leave the router."""
    return [found for found in facts.matching("*") if found.link_type != LOOPBACK]
