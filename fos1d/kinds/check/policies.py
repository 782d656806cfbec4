"""Policies whose rules are together more than the data path holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from fos1d import abi
from fos1d.kinds.check.found import Found
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.manifest import Loc
from fos1d.model.identity import ResourceId

MOST_RULES = int(abi.Size.POLICY_RULES)

# What all policies of one chain share, a list of rules with its place and its length.
Chain: TypeAlias = str
Rules: TypeAlias = tuple[Chain, Loc, int]


def policy_sizes(ranked: Sequence[Declaration]) -> Iterator[Found]:
    """Yield the first policy without room in each direction, on any router that surely has it."""
    policies = [declaration for declaration in ranked if next(_rules(declaration), None)]
    if max(_totals(policies).values(), default=0) <= MOST_RULES:
        return
    told: set[tuple[ResourceId, Loc]] = set()
    for router in _routers(policies):
        for found in _excess([p for p in policies if _router_of(p) in (EVERYWHERE, router)]):
            if (found.declaration.id, found.loc) not in told:
                told.add((found.declaration.id, found.loc))
                yield found


def _rules(declaration: Declaration) -> Iterator[Rules]:
    match declaration.resource:
        case EBPFNetworkPolicy(spec=network):
            for way, rules in network.directions():
                yield f"network policies' {way}", ("spec", way), len(rules)
        case EBPFContainerPolicy(spec=container):
            controls = container.network_controls
            for way in ("ingress", "egress"):
                if controls.controls(way):
                    loc = ("spec", "networkControls", f"{way}Rules")
                    yield f"container policies' {way}", loc, len(controls.rules(way))
        case _:
            return


def _totals(policies: Sequence[Declaration]) -> Counter[Chain]:
    totals: Counter[Chain] = Counter()
    for declaration in policies:
        for chain, _, count in _rules(declaration):
            totals[chain] += count
    return totals


def _excess(policies: Sequence[Declaration]) -> Iterator[Found]:
    """Yield the first rule beyond the limit of each chain; the policies are in their order."""
    totals: Counter[Chain] = Counter()
    for declaration in policies:
        for chain, loc, count in _rules(declaration):
            before = totals[chain]
            totals[chain] += count
            if before <= MOST_RULES < totals[chain]:
                message = (
                    f"has no room for its rules from [{MOST_RULES - before}] on: the {chain} rules"
                    f" of one router are at most {MOST_RULES:,}, and policies of lower or equal"
                    f" priority number have {before:,}"
                )
                yield Found(declaration, loc, message)


# Routers

Router: TypeAlias = tuple[str, ...]
EVERYWHERE: Router = ()


def _router_of(declaration: Declaration) -> Router:
    """Return what tells the routers of two policies apart; equal: they surely meet."""
    spec = declaration.resource.spec
    selectors = [spec.node_selector]
    if isinstance(declaration.resource, EBPFNetworkPolicy):
        chosen = declaration.resource.spec.selector
        selectors.append(chosen.node_selector if chosen else None)
    return tuple(sorted(found.model_dump_json() for found in selectors if found is not None))


def _routers(policies: Sequence[Declaration]) -> list[Router]:
    return sorted({_router_of(declaration) for declaration in policies})
