"""Who wins where two manifests want one thing, and whether they meet on any router."""

from __future__ import annotations

from collections.abc import Iterator

from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.map import MapSpec
from fos1d.kinds.meta import Expression, LabelSelector
from fos1d.kinds.traffic_control import TrafficControlSpec
from fos1d.manifest import Loc
from fos1d.model.diagnostic import Severity


def rank(declaration: Declaration) -> tuple[int, str, str, str]:
    """Return the place in the order of winning: priority, name space, name."""
    identity, spec = declaration.id, declaration.resource.spec
    priority = 0 if isinstance(spec, MapSpec | TrafficControlSpec) else spec.priority
    return priority, identity.namespace, identity.name, identity.kind


def contest(
    winner: Declaration, loser: Declaration, loc: Loc, what: str, advice: str
) -> Iterator[Found]:
    """Yield the loser's error; a warning where the two may never meet on a router."""
    ours, theirs = loser.resource.spec.node_selector, winner.resource.spec.node_selector
    if disjoint(ours, theirs):
        return
    message = f"{what} belongs to {winner.id}, {winner.origin}; {advice}"
    if ours is None or theirs is None or ours == theirs:
        yield Found(loser, loc, message)
    else:
        where = "on a router that both nodeSelectors select, "
        yield Found(loser, loc, where + message, Severity.WARNING)


def disjoint(one: LabelSelector | None, other: LabelSelector | None) -> bool:
    """Whether no set of labels can meet both selectors, as far as it is easily told."""
    if one is None or other is None:
        return False
    labels = other.match_labels
    if any(labels.get(key, value) != value for key, value in one.match_labels.items()):
        return True  # the usual way to tell the routers of a fleet apart, and fast
    ours, theirs = list(_requirements(one)), list(_requirements(other))
    return any(_exclude(a, b) or _exclude(b, a) for a in ours for b in theirs)


def _requirements(selector: LabelSelector) -> Iterator[Expression]:
    for key, value in selector.match_labels.items():
        yield Expression.model_construct(key=key, operator="In", values=(value,))
    yield from selector.match_expressions


def _exclude(one: Expression, other: Expression) -> bool:
    if one.key != other.key:
        return False
    ours, theirs = set(one.values or ()), set(other.values or ())
    match one.operator, other.operator:
        case "In", "In":
            return not ours & theirs
        case "In", "NotIn":
            return ours <= theirs
        case "In" | "Exists", "DoesNotExist":
            return True
        case _:
            return False
